// The memory outside of a block that a launch may touch, and who touched it: for launches that say what they work on.
#pragma once
#include <memory>
#include <vector>

#include "order.hpp"
#include "shadow.hpp"

namespace interpreter {
// Laid out as `RawExtent` in src/lib.rs.
struct Extent {
  const u8* start;
  size_t bytes;
  u32 writable;
};

class Memory {
 public:
  void begin_launch(const Extent* extents, size_t count);
  bool watched() const { return !ranges_.empty(); }
  // An access of the running thread to [at, at + bytes), which is not shared memory. False where the range is none of ours.
  bool touch(const void* at, size_t bytes, bool write, const Where& where);
  // The same, of an atomic operation: what the block does next is ordered after what others did.
  bool atomic(const void* at, size_t bytes, const Where& where);
  void begin_block() { acquired_ = false; }

 private:
  // The last write and the last read of a byte in this launch. Stamps grow from block to block.
  struct Cell {
    u32 written, read;
    u16 writer, reader;
    u32 where;
  };
  struct Free {
    void operator()(Cell* cells) const;
  };
  struct Range {
    Extent extent;
    std::unique_ptr<Cell, Free> cells;  // of those that may be written
  };
  Range* find(const void* at, size_t bytes);
  void check(const Cell&, u32 stamp, u32 by, bool wrote, const char* does, const Range&, size_t offset, const Where&);

  std::vector<Range> ranges_;
  size_t last_ = 0;
  bool acquired_ = false;
};
}  // namespace interpreter
