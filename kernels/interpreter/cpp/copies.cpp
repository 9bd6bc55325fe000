// cp.async: copies of one thread, in groups, that land when they please until they are waited for.
#include <cstring>

#include "block.hpp"

namespace interpreter {
namespace {
void land_copy(const Copy& copy) {
  if (copy.in) {
    memcpy(copy.dst, copy.src, copy.bytes);
  } else {
    memset(copy.dst, 0, copy.bytes);
  }
}
}  // namespace

void copy_async(void* dst, const void* src, u32 bytes, bool in, Place place) {
  const u32 offset = shared_offset(dst, place);
  if (offset % bytes != 0 || (uintptr_t)src % bytes != 0) {
    fail(Fault::Misaligned, "cp.async of %u bytes from %p to byte %u of shared memory, at %s:%u", bytes, src, offset,
         place.file, place.line);
  }
  block->shared_at(offset, bytes, "cp.async", place);
  const u32 self = ids->linear;
  block->shadow.write(offset, bytes, block->order.copies_of(self), block->order.tick(), {0, place});
  if (in && block->memory.watched()) block->touch_outside(src, bytes, false, {0, place});
  const Copy copy = {dst, src, bytes, in};
  if (early(block->copies)) {
    land_copy(copy);
  } else {
    block->self().copies.work.push_back(copy);
  }
}
void copy_commit() { block->self().copies.commit(block->order.tick()); }
void copy_wait(u32 keep, Place) { block->order.copies_done(ids->linear, block->self().copies.wait(keep, land_copy)); }
}  // namespace interpreter
