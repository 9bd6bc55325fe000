// A launch: checks what the driver would check, then runs block after block.
#include "launch.hpp"

#include <memory>
#include <memory>
#include <numeric>

#include "block.hpp"

namespace interpreter {
extern const Entry* const entries[];
extern const size_t entry_count, shipped_count;

namespace {
bool checked(const Entry* entry, const u32* threads, const u32* blocks, u32 shared, const size_t* sizes, size_t count) {
  if (entry->count != count) {
    note(Fault::Arguments, "%zu arguments, expected %zu", count, entry->count);
    return false;
  }
  for (size_t i = 0; i < count; i++) {
    if (entry->sizes[i] == sizes[i]) continue;
    note(Fault::Arguments, "argument %zu has %zu bytes, expected %zu", i, sizes[i], entry->sizes[i]);
    return false;
  }
  const u64 n = (u64)threads[0] * threads[1] * threads[2];
  if (n == 0 || n > 1024 || threads[2] > 64) {
    note(Fault::Launch, "a block of %u x %u x %u threads; it has 1 to 1024", threads[0], threads[1], threads[2]);
  } else if (blocks[0] == 0 || blocks[1] == 0 || blocks[2] == 0 || blocks[1] > 65535 || blocks[2] > 65535) {
    note(Fault::Launch, "a grid of %u x %u x %u blocks", blocks[0], blocks[1], blocks[2]);
  } else if (shared > kSharedMost) {
    note(Fault::Launch, "%u bytes of shared memory; a block has %u", shared, kSharedMost);
  }
  return block->report->fault == 0;
}
}  // namespace
}  // namespace interpreter

extern "C" {
size_t galatea_interpreter_entries() { return interpreter::entry_count; }
size_t galatea_interpreter_shipped() { return interpreter::shipped_count; }
const char* galatea_interpreter_entry(size_t i) { return interpreter::entries[i]->name; }

void galatea_interpreter_launch(size_t index, const u32* blocks, const u32* threads, u32 shared, void** args,
                                const size_t* sizes, size_t count, u64 seed, const interpreter::Extent* extents,
                                size_t extent_count, interpreter::Report* report) {
  using namespace interpreter;
  // Behind a pointer: a library that is loaded late has little room for what belongs to a thread.
  static thread_local std::unique_ptr<Block> kept = std::make_unique<Block>();
  Block& own = *kept;
  block = &own;
  own.report = report;
  const Entry* entry = entries[index];
  if (!checked(entry, threads, blocks, shared, sizes, count)) {
    report->in_block = 0;
    return;
  }
  const Dim3 n = {threads[0], threads[1], threads[2]}, g = {blocks[0], blocks[1], blocks[2]};
  own.begin_launch(seed, report, n.x * n.y * n.z, args, sizes, count);
  own.memory.begin_launch(extents, extent_count);
  // The order of blocks is drawn too: a walk with a stride that shares no factor with their number.
  const u64 total = (u64)g.x * g.y * g.z;
  u64 stride = 1, at = 0;
  if (seed != 0) {
    at = own.rng.next() % total;
    do stride = 1 + own.rng.next() % total;
    while (std::gcd(stride, total) != 1);
  }
  for (u64 i = 0; i < total; i++, at = (at + stride) % total) {
    const Dim3 where = {(u32)(at % g.x), (u32)(at / g.x % g.y), (u32)(at / g.x / g.y)};
    const Ids base = {{0, 0, 0}, where, n, g, 0};
    if (!own.run(base, shared, entry->body)) {
      report->block[0] = where.x, report->block[1] = where.y, report->block[2] = where.z;
      return;
    }
  }
}
}
