#include "shadow.hpp"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "block.hpp"

namespace interpreter {
namespace {
constexpr size_t kBytes = 256 * 1024;

// Places that intrinsics gave, so that a cell holds one word. They are few: one for each line of a kernel.
std::vector<Place>& places() {
  static thread_local std::vector<Place> known;
  return known;
}
constexpr u32 kPlace = 0x80000000u;

std::string described(u32 where) {
  char text[400];
  if (where == 0) return "";
  if ((where & kPlace) != 0) {
    const Place& place = places()[where & ~kPlace];
    snprintf(text, sizeof text, " at %s:%u", place.file, place.line);
  } else {
    snprintf(text, sizeof text, " at <%x>", where);  // the Rust side looks the line up
  }
  return text;
}

std::string named(u32 actor) {
  const Order& order = block->order;
  char text[120];
  const auto thread = [&](const char* format, u32 t) {
    const Dim3 at = block->threads_[t].ids.thread;
    snprintf(text, sizeof text, format, at.x, at.y, at.z);
  };
  const u32 threads = order.copies_of(0);
  if (actor < threads) {
    thread("thread (%u,%u,%u)", actor);
  } else if (actor < order.products_of(0)) {
    thread("a cp.async of thread (%u,%u,%u)", actor - threads);
  } else if (actor < order.stores_of(0)) {
    snprintf(text, sizeof text, "a wgmma of warp %u", actor - order.products_of(0));
  } else if (actor < order.loads_at(0)) {
    snprintf(text, sizeof text, "a store of the copy engine from warp %u", actor - order.stores_of(0));
  } else {
    snprintf(text, sizeof text, "a load of the copy engine for the mbarrier at byte %u",
             block->barrier_offset(actor - order.loads_at(0)));
  }
  return text;
}
}  // namespace

std::string Shadow::described(const Where& where) {
  if (where.place.file == nullptr) return interpreter::described(where.code);
  char text[400];
  snprintf(text, sizeof text, " at %s:%u", where.place.file, where.place.line);
  return text;
}

Shadow::~Shadow() {
  if (cells_ != nullptr) munmap(cells_, kBytes / 2 * sizeof(Cell));
  if (bytes_ != nullptr) munmap(bytes_, kBytes * sizeof(Cell));
}

void Shadow::forget() {
  if (cells_ != nullptr) memset(cells_, 0, kBytes / 2 * sizeof(Cell));
}

void Shadow::begin_block() {
  if (cells_ == nullptr) {
    const auto zeros = [](size_t bytes) {
      void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (at == MAP_FAILED) std::abort();
      return static_cast<Cell*>(at);
    };
    cells_ = zeros(kBytes / 2 * sizeof(Cell));
    bytes_ = zeros(kBytes * sizeof(Cell));
    split_.assign(kBytes / 2, 0);
  }
  if (split_count_ != 0) std::fill(split_.begin(), split_.end(), 0);
  split_count_ = 0;
}

Shadow::Cell& Shadow::byte(u32 offset) {
  if (split_[offset / 2] == 0) {
    split_[offset / 2] = 1;
    split_count_++;
    bytes_[offset & ~1u] = bytes_[offset | 1] = cells_[offset / 2];
  }
  return bytes_[offset];
}

u32 Shadow::placed(const Place& place) {
  static thread_local size_t last = 0;
  std::vector<Place>& known = places();
  const auto same = [&](size_t i) { return known[i].line == place.line && known[i].file == place.file; };
  if (last < known.size() && same(last)) return kPlace | (u32)last;
  for (last = 0; last < known.size() && !same(last);) last++;
  if (last == known.size()) known.push_back(place);
  return kPlace | (u32)last;
}

void Shadow::race(const Cell& cell, int earlier, u32 offset, u32 bytes, const char* does, u32 actor, u32 where) {
  fail(Fault::Race, "%s %s %u bytes at byte %u of shared memory%s; %s %s there%s, and nothing orders the two",
       named(actor).c_str(), does, bytes, offset, interpreter::described(where).c_str(), named(cell.actor[earlier]).c_str(),
       earlier == 0 ? "wrote" : "read", interpreter::described(cell.where[earlier]).c_str());
}

void Shadow::read_cell(Cell& cell, u32 offset, u32 bytes, u32 actor, u32 stamp, u32 where) {
  const Order& order = block->order;
  const u32 self = ids->linear;
  if (!order.before(cell.actor[0], cell.stamp[0], self)) race(cell, 0, offset, bytes, "reads", actor, where);
  // Replace a reader that this one is ordered after, else the older.
  int slot = 1;
  if (cell.actor[1] != actor && !order.before(cell.actor[1], cell.stamp[1], self)) {
    slot = 2;
    if (cell.actor[2] != actor && !order.before(cell.actor[2], cell.stamp[2], self) && cell.stamp[1] < cell.stamp[2]) slot = 1;
  }
  cell.actor[slot] = (u16)actor, cell.stamp[slot] = stamp;
  cell.where[slot] = where;
}

void Shadow::write_cell(Cell& cell, u32 offset, u32 bytes, u32 actor, u32 stamp, u32 where) {
  const Order& order = block->order;
  const u32 self = ids->linear;
  for (int i = 0; i < 3; i++) {
    if (!order.before(cell.actor[i], cell.stamp[i], self)) race(cell, i, offset, bytes, "writes", actor, where);
  }
  cell = {};
  cell.actor[0] = (u16)actor, cell.stamp[0] = stamp;
  cell.where[0] = where;
}

void Shadow::read_async(u32 offset, u32 bytes, u32 actor, u32 stamp, const Where& where) {
  read(offset, bytes, actor, stamp, where);
  each(offset, bytes, [&](const Cell& cell) {
    if (block->order.fenced(cell.actor[0], cell.stamp[0], ids->linear)) return;
    fail(Fault::Race, "%s reads %u bytes at byte %u of shared memory%s, which %s wrote%s without fence_async behind it",
         named(actor).c_str(), bytes, offset, described(where).c_str(), named(cell.actor[0]).c_str(),
         interpreter::described(cell.where[0]).c_str());
  });
}

void Shadow::atomic(u32 offset, u32 bytes, u32 thread, u32 stamp, const Where& where) {
  const u32 at = stored(where);
  each(offset, bytes, [&](Cell& cell) {
    const Order& order = block->order;
    for (int i = 0; i < 3; i++) {
      if (i == 0 && cell.atomic != 0) continue;
      if (!order.before(cell.actor[i], cell.stamp[i], thread)) race(cell, i, offset, bytes, "atomically writes", thread, at);
    }
    cell = {};
    cell.actor[0] = (u16)thread, cell.stamp[0] = stamp, cell.where[0] = at, cell.atomic = 1;
  });
}

void Shadow::look(u32 offset, u32 bytes, const Where& where) {
  each(offset, bytes, [&](const Cell& cell) {
    if (!block->order.before(cell.actor[0], cell.stamp[0], ids->linear)) {
      race(cell, 0, offset, bytes, "uses", ids->linear, stored(where));
    }
  });
}
}  // namespace interpreter
