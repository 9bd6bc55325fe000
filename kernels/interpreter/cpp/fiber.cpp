#include "fiber.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __asan_unpoison_memory_region(void const volatile*, size_t);
#endif

#if defined(__x86_64__)
asm(R"(
.text
.globl galatea_interpreter_switch
.type galatea_interpreter_switch,@function
galatea_interpreter_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size galatea_interpreter_switch, .-galatea_interpreter_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl galatea_interpreter_switch
.type galatea_interpreter_switch,%function
galatea_interpreter_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size galatea_interpreter_switch, .-galatea_interpreter_switch
)");
#else
#error "the interpreter switches stacks on x86-64 and aarch64 alone"
#endif

namespace interpreter {
namespace {
// The frames of a thread that was left behind, or that never returned to its first one, have not undone the sanitizer's
// marks; who gets the memory next knows nothing of them.
void forget_frames(unsigned char* from, size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(from, bytes);
#else
  (void)from, (void)bytes;
#endif
}
}  // namespace

Stacks::~Stacks() { release(); }

void Stacks::release() {
  if (base_ == nullptr) return;
  forget_frames(base_, count_ * kBytes);
  munmap(base_, count_ * kBytes);
}

void Stacks::reset(size_t count) {
  if (count > count_) {
    release();
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* at = mmap(nullptr, count * kBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at == MAP_FAILED) std::abort();
    base_ = static_cast<unsigned char*>(at);
    count_ = count;
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    for (size_t i = 0; i < count; i++) mprotect(base_ + i * kBytes, page, PROT_NONE);
  }
  free_.clear();
  for (size_t i = count_; i-- > 0;) free_.push_back(base_ + i * kBytes);
}

unsigned char* Stacks::take() {
  unsigned char* stack = free_.back();
  free_.pop_back();
  forget_frames(stack, kBytes);
  return stack;
}

void* Stacks::prepare(unsigned char* stack, void (*entry)()) {
  void** sp = reinterpret_cast<void**>(stack + kBytes - 64);
#if defined(__x86_64__)
  *--sp = nullptr;  // the return address of `entry`, which keeps the stack aligned as after a call
  *--sp = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--sp = nullptr;
#else
  sp -= 20;
  for (int i = 0; i < 20; i++) sp[i] = nullptr;
  sp[11] = reinterpret_cast<void*>(entry);  // x30, to which `ret` goes
#endif
  return sp;
}
}  // namespace interpreter
