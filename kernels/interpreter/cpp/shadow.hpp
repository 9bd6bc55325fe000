// Who touched every byte of shared memory last: finds two accesses, one of them a write, that nothing orders.
#pragma once
#include <string>

#include "order.hpp"

namespace interpreter {
// Where in a kernel: an address in the program, counted from its start, or a place that an intrinsic was given.
struct Where {
  u32 code = 0;
  Place place = {nullptr, 0};
};

class Shadow {
 public:
  Shadow() = default;
  Shadow(const Shadow&) = delete;
  ~Shadow();
  void begin_block();
  void forget();
  // `actor` touches bytes for the running thread, at a stamp; ends the launch on a race.
  void read(u32 offset, u32 bytes, u32 actor, u32 stamp, const Where& where) {
    const u32 at = stored(where);
    each(offset, bytes, [&](Cell& cell) {
      if (cell.actor[1] == actor && cell.stamp[1] == stamp) return;  // the same reader again
      read_cell(cell, offset, bytes, actor, stamp, at);
    });
  }
  void write(u32 offset, u32 bytes, u32 actor, u32 stamp, const Where& where) {
    const u32 at = stored(where);
    each(offset, bytes, [&](Cell& cell) { write_cell(cell, offset, bytes, actor, stamp, at); });
  }
  // By the copy engine or wgmma: what threads wrote must have been fenced.
  void read_async(u32 offset, u32 bytes, u32 actor, u32 stamp, const Where& where);
  // Atomic operations are ordered among themselves.
  void atomic(u32 offset, u32 bytes, u32 thread, u32 stamp, const Where& where);
  // " at kernels/src/a.cu:31", or nothing where no place is known.
  static std::string described(const Where& where);
  // A read that leaves no trace: of a barrier's own bytes.
  void look(u32 offset, u32 bytes, const Where& where);

 private:
  // Two bytes. Of the readers since the last write, two that are not ordered are kept.
  struct Cell {
    u32 stamp[3], where[3];  // the write, and two reads
    u16 actor[3];
    u16 atomic;
  };
  static_assert(sizeof(Cell) == 32, "two cells to a cache line");

  template <class Do>
  void each(u32 offset, u32 bytes, Do&& perform) {
    if (((offset | bytes) & 1) == 0 && split_count_ == 0) {
      for (u32 i = offset / 2; i < (offset + bytes) / 2; i++) perform(cells_[i]);
    } else {
      for (u32 i = offset; i < offset + bytes;) {
        const bool pair = (i & 1) == 0 && i + 2 <= offset + bytes;
        if (pair && split_[i / 2] == 0) {
          perform(cells_[i / 2]);
          i += 2;
        } else {
          perform(byte(i));
          i++;
        }
      }
    }
  }
  Cell& byte(u32 offset);
  void read_cell(Cell&, u32 offset, u32 bytes, u32 actor, u32 stamp, u32 where);
  void write_cell(Cell&, u32 offset, u32 bytes, u32 actor, u32 stamp, u32 where);
  // One word for a place: an address, or the number of a place among those that intrinsics gave.
  u32 stored(const Where& where) { return where.place.file == nullptr ? where.code : placed(where.place); }
  u32 placed(const Place&);
  [[noreturn]] void race(const Cell&, int earlier, u32 offset, u32 bytes, const char* does, u32 actor, u32 where);

  Cell* cells_ = nullptr;  // by two bytes
  Cell* bytes_ = nullptr;  // by byte, of those pairs that were touched by halves
  std::vector<u8> split_;
  u32 split_count_ = 0;
};
}  // namespace interpreter
