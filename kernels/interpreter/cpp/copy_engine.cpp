// TMA: boxes of a tensor of rank 3 to and from shared memory, and the mbarriers at which they arrive.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "block.hpp"

namespace interpreter {
namespace {
// A barrier's 8 bytes. The tag tells one from memory that nobody initialised.
struct Mbarrier {
  u64 phase : 1, pending : 12, expected : 12;
  int64_t bytes : 31;
  u64 tag : 8;
};
static_assert(sizeof(Mbarrier) == 8, "a barrier has 8 bytes");
constexpr u64 kTag = 0xb5;

Mbarrier& checked(u64* bar, Place place) {
  const u32 offset = shared_offset(bar, place);
  if (offset % 8 != 0) fail(Fault::Misaligned, "an mbarrier at byte %u, at %s:%u", offset, place.file, place.line);
  Mbarrier& b = *reinterpret_cast<Mbarrier*>(bar);
  if (b.tag != kTag) {
    fail(Fault::Barrier, "the mbarrier at byte %u was not initialised, at %s:%u", offset, place.file, place.line);
  }
  block->shadow.look(offset, 8, {0, place});
  return b;
}

// Ends the phase if all have arrived, threads and bytes.
void settle(u64* bar) {
  Mbarrier& b = *reinterpret_cast<Mbarrier*>(bar);
  if (b.pending != 0) return;
  if (b.bytes < 0) {
    note(Fault::Barrier, "%lld bytes more than expected arrived at the mbarrier at byte %td", -(long long)b.bytes,
         reinterpret_cast<u8*>(bar) - block->shared);
  } else if (b.bytes == 0) {
    const u32 over = b.phase;
    b.phase ^= 1, b.pending = b.expected;
    block->phase_over(bar, over);
  }
}

// Calls `row(inside, outside)` with a row's bytes in shared memory and in the tensor, element by element (swizzled, clipped).
template <class Do>
void each_element(const TensorCopy& copy, Do&& perform) {
  const TensorMap3& m = copy.map;
  const uintptr_t mask = m.swizzle == 0 ? 0 : m.swizzle / 16 - 1;
  uintptr_t inside = (uintptr_t)copy.shared;
  for (u32 z = 0; z < m.boxes[2]; z++) {
    for (u32 y = 0; y < m.boxes[1]; y++) {
      for (u32 x = 0; x < m.boxes[0]; x++, inside += m.elem_bytes) {
        const i64 at[3] = {(i64)copy.at[0] + x, (i64)copy.at[1] + y, (i64)copy.at[2] + z};
        bool in = true;
        for (int i = 0; i < 3; i++) in = in && at[i] >= 0 && (u64)at[i] < m.dims[i];
        const u8* outside = in ? m.base + (u64)at[2] * m.pitches[1] + (u64)at[1] * m.pitches[0] + (u64)at[0] * m.elem_bytes
                               : nullptr;
        perform(reinterpret_cast<u8*>(inside ^ ((inside >> 7 & mask) << 4)), const_cast<u8*>(outside));
      }
    }
  }
}

u32 bytes_of(const TensorMap3& m) { return m.boxes[0] * m.boxes[1] * m.boxes[2] * m.elem_bytes; }

// Calls `perform(outside, bytes)` for the part of every row that lies in the tensor.
template <class Do>
void each_row(const TensorCopy& copy, Do&& perform) {
  const TensorMap3& m = copy.map;
  const i64 from = std::max<i64>(copy.at[0], 0), to = std::min<i64>((i64)copy.at[0] + m.boxes[0], (i64)m.dims[0]);
  for (i64 z = copy.at[2]; z < (i64)copy.at[2] + m.boxes[2]; z++) {
    for (i64 y = copy.at[1]; y < (i64)copy.at[1] + m.boxes[1]; y++) {
      if (from >= to || y < 0 || y >= (i64)m.dims[1] || z < 0 || z >= (i64)m.dims[2]) continue;
      const u8* row = m.base + (u64)z * m.pitches[1] + (u64)y * m.pitches[0] + (u64)from * m.elem_bytes;
      perform(const_cast<u8*>(row), (u32)(to - from) * m.elem_bytes);
    }
  }
}

TensorCopy prepared(const char* what, const void* map, void* shared, int x, int y, int z, bool stores, Place place) {
  TensorCopy copy{};
  memcpy(&copy.map, map, sizeof copy.map);
  const TensorMap3& m = copy.map;
  copy.shared = static_cast<u8*>(shared);
  copy.at[0] = x, copy.at[1] = y, copy.at[2] = z;
  const u32 offset = shared_offset(shared, place), row = m.boxes[0] * m.elem_bytes;
  const bool known = m.swizzle == 0 || m.swizzle == 32 || m.swizzle == 64 || m.swizzle == 128;
  if (!known || m.elem_bytes == 0 || (m.swizzle != 0 && row > m.swizzle) || row % 16 != 0) {
    fail(Fault::Launch, "%s with rows of %u bytes under a swizzle of %u, at %s:%u", what, row, m.swizzle, place.file,
         place.line);
  }
  // A box begins where its pattern does: 8 rows of the swizzle's width.
  const u32 align = m.swizzle == 0 ? 128 : 8 * m.swizzle;
  if (offset % align != 0) {
    fail(Fault::Misaligned, "%s at byte %u of shared memory; under a swizzle of %u it begins at a multiple of %u, at %s:%u",
         what, offset, m.swizzle, align, place.file, place.line);
  }
  if ((uintptr_t)m.base % 16 != 0 || m.pitches[0] % 16 != 0 || m.pitches[1] % 16 != 0) {
    fail(Fault::Misaligned, "%s of a tensor at %p with pitches %llu and %llu; all are multiples of 16, at %s:%u", what,
         (const void*)m.base, m.pitches[0], m.pitches[1], place.file, place.line);
  }
  block->shared_at(offset, bytes_of(m), what, place);
  if (block->memory.watched()) {
    each_row(copy, [&](u8* outside, u32 bytes) { block->touch_outside(outside, bytes, stores, {0, place}); });
  }
  return copy;
}
}  // namespace

// What is missing at the barrier that a thread waits for.
std::string describe_barrier(const Thread& t) {
  if (strcmp(t.what, "mbar_wait") != 0) return "";
  const Mbarrier& b = *static_cast<const Mbarrier*>(t.object);
  char text[160];
  snprintf(text, sizeof text, " (the mbarrier at byte %td lacks %u arrivals and %lld bytes to end a phase of parity %u)",
           static_cast<const u8*>(t.object) - block->shared, (u32)b.pending, (long long)b.bytes, (u32)b.phase);
  return text;
}

void barrier_init(u64* bar, u32 count, Place place) {
  const u32 offset = shared_offset(bar, place);
  if (offset % 8 != 0) fail(Fault::Misaligned, "an mbarrier at byte %u, at %s:%u", offset, place.file, place.line);
  if (count == 0 || count > 1024) {
    fail(Fault::Barrier, "an mbarrier of %u arrivals, at %s:%u", count, place.file, place.line);
  }
  block->shadow.write(offset, 8, ids->linear, block->order.now(ids->linear), {0, place});
  const Arrivals fresh = {bar, ids->linear, block->order.now(ids->linear), {}, {}};
  size_t at = 0;
  while (at < block->mbarriers.size() && block->mbarriers[at].bar != bar) at++;
  if (at == Order::kBarriers) fail(Fault::Barrier, "more than %zu mbarriers, at %s:%u", at, place.file, place.line);
  if (at == block->mbarriers.size()) {
    block->mbarriers.push_back(fresh);
  } else {
    block->mbarriers[at] = fresh;
  }
  Mbarrier b{};
  b.pending = b.expected = count, b.tag = kTag;
  memcpy(bar, &b, sizeof b);
}
void barrier_init_fence() { block->order.fence(ids->linear); }

void barrier_arrive(u64* bar, u32 bytes, Place place) {
  Mbarrier& b = checked(bar, place);
  if (b.pending == 0) {
    fail(Fault::Barrier, "more than %u arrivals in a phase of the mbarrier at byte %u, at %s:%u", (u32)b.expected,
         shared_offset(bar, place), place.file, place.line);
  }
  block->order.publish(ids->linear, block->arrivals(bar).gathered);
  b.bytes += bytes;
  b.pending--;
  settle(bar);
}

void barrier_wait(u64* bar, u32 parity, Place place) {
  if (checked(bar, place).phase != (parity & 1)) {
    block->order.learn(ids->linear, block->arrivals(bar).over);
    return;
  }
  block->self().parity = parity & 1;
  block->wait("mbar_wait", bar, place);
}

Arrivals& Block::arrivals(const u64* bar) {
  size_t at = 0;
  while (at < mbarriers.size() && mbarriers[at].bar != bar) at++;
  if (at == mbarriers.size()) fail(Fault::Barrier, "an mbarrier that was copied rather than initialised");
  return mbarriers[at];
}

void Block::phase_over(const u64* bar, u32 phase) {
  Arrivals& a = arrivals(bar);
  a.over = a.gathered;
  for (u32 i = 0; i < threads_.size(); i++) {
    Thread& t = threads_[i];
    if (t.state == State::Waiting && t.object == bar && t.parity == phase) {
      order.learn(i, a.over);
      wake(i);
    }
  }
}

void fence_async() { block->order.fence(ids->linear); }

void tensor_load(void* dst, const void* map, u64* bar, int x, int y, int z, Place place) {
  checked(bar, place);
  TensorCopy copy = prepared("a load of the copy engine", map, dst, x, y, z, false, place);
  copy.bar = bar;
  const Arrivals& a = block->arrivals(bar);
  if (!block->order.fenced(a.by, a.stamp, ids->linear)) {
    fail(Fault::Barrier, "a load of the copy engine for the mbarrier at byte %u, which no mbar_init_fence follows, at %s:%u",
         shared_offset(bar, place), place.file, place.line);
  }
  copy.actor = block->order.loads_at((u32)(&a - block->mbarriers.data())), copy.stamp = block->order.tick();
  block->shadow.write(shared_offset(dst, place), bytes_of(copy.map), copy.actor, copy.stamp, {0, place});
  block->pending.push_back(copy);
  if (block->loads == Timing::Early) block->land(block->pending.size() - 1);
}

void Block::land(size_t index) {
  const TensorCopy copy = pending[index];
  pending.erase(pending.begin() + (long)index);
  const TensorMap3& m = copy.map;
  each_element(copy, [&](u8* inside, const u8* outside) {
    if (outside != nullptr) {
      memcpy(inside, outside, m.elem_bytes);
    } else {
      memset(inside, 0, m.elem_bytes);
    }
  });
  reinterpret_cast<Mbarrier*>(copy.bar)->bytes -= bytes_of(m);
  Knowledge& gathered = arrivals(copy.bar).gathered;
  gathered.resize(order.actors());
  gathered[copy.actor] = std::max(gathered[copy.actor], copy.stamp);
  settle(copy.bar);
}

void finish_store(const TensorCopy& copy) {
  each_element(copy, [&](const u8* inside, u8* outside) {
    if (outside == nullptr) return;
    if (!copy.add) {
      memcpy(outside, inside, copy.map.elem_bytes);
      return;
    }
    float a, b;
    memcpy(&a, outside, 4), memcpy(&b, inside, 4);
    a += b;
    memcpy(outside, &a, 4);
  });
}

void tensor_store(const void* map, const void* src, int x, int y, int z, bool add, Place place) {
  TensorCopy copy = prepared("a store of the copy engine", map, const_cast<void*>(src), x, y, z, !add, place);
  copy.add = add;
  if (add && copy.map.elem_bytes != 4) {
    fail(Fault::Launch, "the copy engine adds floats of 4 bytes here, not of %u, at %s:%u", copy.map.elem_bytes,
         place.file, place.line);
  }
  const u32 actor = block->order.stores_of(ids->linear / 32);
  block->shadow.read_async(shared_offset(src, place), bytes_of(copy.map), actor, block->order.tick(), {0, place});
  if (early(block->copies)) {
    finish_store(copy);
  } else {
    block->self().stores.work.push_back(copy);
  }
}
void tensor_commit() { block->self().stores.commit(block->order.tick()); }
void tensor_wait(u32 keep, Place) {
  block->order.stores_done(ids->linear / 32, block->self().stores.wait(keep, finish_store));
}
}  // namespace interpreter
