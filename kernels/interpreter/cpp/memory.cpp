#include "memory.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "block.hpp"

namespace interpreter {
void Memory::Free::operator()(Cell* cells) const { std::free(cells); }

void Memory::begin_launch(const Extent* extents, size_t count) {
  ranges_.clear();
  last_ = 0;
  for (size_t i = 0; i < count; i++) {
    // Pages that nobody touches cost nothing.
    void* cells = extents[i].writable != 0 ? std::calloc(extents[i].bytes, sizeof(Cell)) : nullptr;
    ranges_.push_back({extents[i], std::unique_ptr<Cell, Free>(static_cast<Cell*>(cells))});
  }
}

Memory::Range* Memory::find(const void* at, size_t bytes) {
  const auto holds = [&](const Range& r) {
    const size_t offset = (size_t)((const u8*)at - r.extent.start);
    return offset < r.extent.bytes && bytes <= r.extent.bytes - offset;
  };
  if (last_ < ranges_.size() && holds(ranges_[last_])) return &ranges_[last_];
  for (size_t i = 0; i < ranges_.size(); i++) {
    if (holds(ranges_[i])) return &ranges_[last_ = i];
  }
  return nullptr;
}

// Whether something was done at `stamp` that nothing orders before what the running thread does.
void Memory::check(const Cell& cell, u32 stamp, u32 by, bool wrote, const char* does, const Range& range, size_t offset,
                   const Where& where) {
  if (stamp == 0) return;
  const Order& order = block->order;
  const bool same_block = order.in_block(stamp);
  if (same_block ? order.before(by, stamp, ids->linear) : acquired_) return;
  const size_t extent = (size_t)(&range - ranges_.data());
  const std::string at = Shadow::described(where), before = wrote ? Shadow::described({cell.where, {nullptr, 0}}) : "";
  if (!same_block) {
    fail(Fault::Race, "%s byte %zu of extent %zu%s, which another block %s%s", does, offset, extent, at.c_str(),
         wrote ? "wrote" : "read", before.c_str());
  }
  const Dim3 t = block->threads_[by].ids.thread;
  fail(Fault::Race, "%s byte %zu of extent %zu%s; thread (%u,%u,%u) %s there%s, and nothing orders the two", does, offset,
       extent, at.c_str(), t.x, t.y, t.z, wrote ? "wrote" : "read", before.c_str());
}

bool Memory::touch(const void* at, size_t bytes, bool write, const Where& where) {
  Range* range = find(at, bytes);
  if (range == nullptr) return false;
  const size_t first = (size_t)((const u8*)at - range->extent.start);
  if (range->cells == nullptr) {
    if (!write) return true;
    fail(Fault::OutOfBounds, "writes byte %zu of extent %zu, which is to be read alone,%s", first,
         (size_t)(range - ranges_.data()), Shadow::described(where).c_str());
  }
  const u32 self = ids->linear, now = block->order.now(self);
  for (size_t i = first; i < first + bytes; i++) {
    Cell& cell = range->cells.get()[i];
    if (cell.writer != self || cell.written < now) {
      check(cell, cell.written, cell.writer, true, write ? "writes" : "reads", *range, i, where);
    }
    if (!write) {
      cell.read = now, cell.reader = (u16)self;
      continue;
    }
    check(cell, cell.read, cell.reader, false, "writes", *range, i, where);
    cell.written = now, cell.writer = (u16)self, cell.where = where.code;
  }
  return true;
}

bool Memory::atomic(const void* at, size_t bytes, const Where& where) {
  Range* range = find(at, bytes);
  if (range == nullptr) return false;
  if (range->cells == nullptr) return touch(at, bytes, true, where);
  acquired_ = true;
  return true;
}
}  // namespace interpreter
