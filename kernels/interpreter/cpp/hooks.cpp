// What the compiler calls in a kernel before every access to memory.
//
// Kernels are compiled with -fsanitize=thread and a few checks of -fsanitize=undefined, and the runtime behind the calls is
// this file: it looks at shared memory alone, and reports through the same failure as everything else.
#include "block.hpp"

extern "C" char __executable_start, _end;

namespace interpreter {
namespace {
// A thread that does so much without meeting anybody spins.
constexpr u32 kLongest = 300000000;

inline __attribute__((always_inline)) void access(const void* at, u32 bytes, bool write, bool aligned, void* from) {
  Block* b = block;
  if (b == nullptr) return;
  if (aligned && (uintptr_t)at % bytes != 0) {
    fail(Fault::Misaligned, "%s %u bytes at %p, at <%lx>", write ? "writes" : "reads", bytes, at,
         (unsigned long)((char*)from - &__executable_start - 1));
  }
  if (++b->turn == kLongest) {
    fail(Fault::Deadlock, "%u accesses in one turn: it waits for what another block or thread would have to do, at <%x>",
         kLongest, (u32)((char*)from - &__executable_start - 1));
  }
  const size_t offset = (size_t)((const u8*)at - b->shared);
  const u32 code = (u32)((char*)from - &__executable_start - 1);
  if (offset < Block::kShared) {
    b->touch((u32)offset, bytes, write, code);
    return;
  }
  if (b->products_in_flight != 0 && b->in_flight(at, bytes)) {
    fail(Fault::Race, "%s registers that a wgmma has still to write, with no wgmma_wait before, at <%x>",
         write ? "writes" : "reads", code);
  }
  if (b->memory.watched()) {
    b->touch_outside(at, bytes, write, {code, {nullptr, 0}});
  }
}
}  // namespace

void Block::touch(u32 offset, u32 bytes, bool write, u32 from) {
  if (offset + bytes > shared_bytes) {
    fail(Fault::OutOfBounds, "%s %u bytes at byte %u of %u of shared memory, at <%x>", write ? "writes" : "reads", bytes,
         offset, shared_bytes, from);
  }
  const Where where = {from, {nullptr, 0}};
  const u32 self = ids->linear;
  if (write) {
    shadow.write(offset, bytes, self, order.now(self), where);
  } else {
    shadow.read(offset, bytes, self, order.now(self), where);
  }
}

// Beside what the launch names, a thread has its stack, its arguments and its indices, and the program its constants.
void Block::touch_outside(const void* at, size_t bytes, bool write, const Where& where) {
  if (stacks_.holds(at) || memory.touch(at, bytes, write, where)) return;  // the stack first: it is touched most
  for (size_t i = 0; i < count_; i++) {
    if ((size_t)((const u8*)at - (const u8*)args_[i]) < sizes_[i]) return;
  }
  const auto within = [at](const void* start, const void* end) { return at >= start && at < end; };
  if (within(threads_.data(), threads_.data() + threads_.size()) || within(&ids, &ids + 1)) return;
  if (within(args_, args_ + count_) || within(&__executable_start, &_end)) return;
  fail(Fault::OutOfBounds, "%s %zu bytes at %p, which the launch does not name,%s", write ? "writes" : "reads", bytes, at,
       Shadow::described(where).c_str());
}

void atomic_access(const void* at, size_t bytes, Place place) {
  const size_t offset = (size_t)((const u8*)at - block->shared);
  if ((uintptr_t)at % bytes != 0) {
    fail(Fault::Misaligned, "an atomic operation of %zu bytes at %p, at %s:%u", bytes, at, place.file, place.line);
  }
  const Where where = {0, place};
  if (offset >= Block::kShared) {
    if (block->memory.watched() && !block->memory.atomic(at, bytes, where)) block->touch_outside(at, bytes, true, where);
    return;
  }
  block->shared_at((u32)offset, (u32)bytes, "an atomic operation", place);
  block->shadow.atomic((u32)offset, (u32)bytes, ids->linear, block->order.now(ids->linear), {0, place});
}
}  // namespace interpreter

// Where a check of -fsanitize=undefined stands in the source.
struct SourceLocation {
  const char* file;
  u32 line, column;
};

extern "C" {
#define HOOK(n)                                                                                              \
  void __tsan_read##n(void* at) { interpreter::access(at, n, false, true, __builtin_return_address(0)); }    \
  void __tsan_write##n(void* at) { interpreter::access(at, n, true, true, __builtin_return_address(0)); }    \
  void __tsan_unaligned_read##n(void* at) { interpreter::access(at, n, false, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##n(void* at) { interpreter::access(at, n, true, false, __builtin_return_address(0)); }
HOOK(1)
HOOK(2)
HOOK(4)
HOOK(8)
HOOK(16)
#undef HOOK
void __tsan_read_range(void* at, size_t n) { interpreter::access(at, (u32)n, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* at, size_t n) { interpreter::access(at, (u32)n, true, false, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

void __ubsan_handle_type_mismatch_v1(void* data, uintptr_t at) {
  const SourceLocation& where = *static_cast<SourceLocation*>(data);
  interpreter::fail(interpreter::Fault::Misaligned, "an access through %p, which is not aligned for its type, at %s:%u",
                    (void*)at, where.file, where.line);
}
void __ubsan_handle_out_of_bounds(void* data, uintptr_t index) {
  const SourceLocation& where = *static_cast<SourceLocation*>(data);
  interpreter::fail(interpreter::Fault::OutOfBounds, "index %lld beyond a local array, at %s:%u", (long long)index,
                    where.file, where.line);
}
void __ubsan_handle_divrem_overflow(void* data, uintptr_t, uintptr_t) {
  const SourceLocation& where = *static_cast<SourceLocation*>(data);
  interpreter::fail(interpreter::Fault::OutOfBounds, "a division by zero, at %s:%u", where.file, where.line);
}
}
