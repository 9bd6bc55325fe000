// Threads that wait for one another: a block's barriers, and the lanes of a warp.
#include <cstring>

#include "block.hpp"

namespace interpreter {
void Block::release(Barrier& barrier) {
  barrier.arrived = 0;
  if (barrier.count == 0) order.meet_all();
  for (u16 t : barrier.waiting) {
    if (barrier.count != 0) order.learn(t, barrier.gathered);
    wake(t);
  }
  barrier.waiting.clear();
}

// `count` threads, or all that have not returned where it is zero.
void Block::sync(u32 id, u32 count, bool waits, const char* what, Place place) {
  if (id >= 16) fail(Fault::Barrier, "barrier %u; there are 0 to 15, at %s:%u", id, place.file, place.line);
  if (count % 32 != 0 || count > 1024) {
    fail(Fault::Barrier, "a barrier of %u threads; whole warps meet, at %s:%u", count, place.file, place.line);
  }
  Barrier& barrier = barriers_[id];
  if (barrier.arrived == 0) {
    barrier.count = count, barrier.place = place;
  } else if (barrier.count != count) {
    fail(Fault::Divergence, "barrier %u is for %u threads at %s:%u and for %u at %s:%u", id, count, place.file,
         place.line, barrier.count, barrier.place.file, barrier.place.line);
  } else if (count == 0 && (place.line != barrier.place.line || strcmp(place.file, barrier.place.file) != 0)) {
    fail(Fault::Divergence, "__syncthreads at %s:%u meets others at %s:%u", place.file, place.line,
         barrier.place.file, barrier.place.line);
  }
  barrier.arrived++;
  if (count != 0) order.publish(ids->linear, barrier.gathered);
  if (barrier.arrived == (count == 0 ? alive_ : count)) {
    release(barrier);
    if (count != 0 && waits) order.learn(ids->linear, barrier.gathered);
  } else if (waits) {
    barrier.waiting.push_back((u16)ids->linear);
    wait(what, &barrier, place);
  }
}

void sync_threads(Place place) { block->sync(0, 0, true, "__syncthreads", place); }
void bar_sync(u32 id, u32 count, Place place) {
  if (count == 0) fail(Fault::Barrier, "a barrier of no threads, at %s:%u", place.file, place.line);
  block->sync(id, count, true, "bar_sync", place);
}
void bar_arrive(u32 id, u32 count, Place place) {
  if (count == 0) fail(Fault::Barrier, "a barrier of no threads, at %s:%u", place.file, place.line);
  block->sync(id, count, false, "bar_arrive", place);
}

// Runs the operation for all lanes and wakes those that wait.
void Block::complete(const Meeting& m, u32 warp) {
  if (m.perform != nullptr) m.perform(warp, m.arrived, m.operands);
  for (u32 rest = m.arrived; rest != 0; rest &= rest - 1) {
    const u32 thread = 32 * warp + (u32)__builtin_ctz(rest);
    if (thread != ids->linear) wake(thread);
  }
}

void Block::meet(const char* what, u32 mask, void* mine, Perform perform, Place place) {
  Warp& w = warp();
  const u32 lane = ids->linear & 31, index = ids->linear / 32;
  if ((mask >> lane & 1) == 0) {
    fail(Fault::Divergence, "%s under mask %08x, which leaves out the caller's lane %u, at %s:%u", what, mask, lane,
         place.file, place.line);
  }
  size_t at = 0;
  while (at < w.meetings.size() && (w.meetings[at].mask & mask) == 0) at++;
  if (at == w.meetings.size()) {
    w.meetings.push_back({what, mask, 0, perform, place, {}});
  } else if (const Meeting& m = w.meetings[at]; m.mask != mask || (m.what != what && strcmp(m.what, what) != 0)) {
    fail(Fault::Divergence, "%s under mask %08x at %s:%u, while lanes of it are in %s under mask %08x at %s:%u", what,
         mask, place.file, place.line, m.what, m.mask, m.place.file, m.place.line);
  }
  Meeting& m = w.meetings[at];
  m.arrived |= 1u << lane;
  m.operands[lane] = mine;
  if (m.arrived != (mask & w.alive)) {
    wait(what, &w, place);
    return;
  }
  const Meeting whole = m;
  w.meetings.erase(w.meetings.begin() + (long)at);
  complete(whole, index);
}

namespace {
struct Shuffle {
  u64 value, result;
  u32 source;
  Place place;
};
void perform_shuffle(u32, u32 lanes, void* const* operands) {
  for (u32 rest = lanes; rest != 0; rest &= rest - 1) {
    Shuffle& mine = *static_cast<Shuffle*>(operands[__builtin_ctz(rest)]);
    if ((lanes >> mine.source & 1) == 0) {
      fail(Fault::Divergence, "a shuffle in lane %d reads lane %u, which takes no part, at %s:%u", __builtin_ctz(rest),
           mine.source, mine.place.file, mine.place.line);
    }
    mine.result = static_cast<Shuffle*>(operands[mine.source])->value;
  }
}
struct Vote {
  u32 value, result;
  Reduce how;
};
void perform_ballot(u32, u32 lanes, void* const* operands) {
  u32 all = 0;
  for (u32 rest = lanes; rest != 0; rest &= rest - 1) {
    all |= static_cast<Vote*>(operands[__builtin_ctz(rest)])->value << __builtin_ctz(rest);
  }
  for (u32 rest = lanes; rest != 0; rest &= rest - 1) static_cast<Vote*>(operands[__builtin_ctz(rest)])->result = all;
}
u32 joined(Reduce how, u32 a, u32 b) {
  switch (how) {
    case Reduce::Add: return a + b;
    case Reduce::MinU: return min(a, b);
    case Reduce::MaxU: return max(a, b);
    case Reduce::MinI: return (u32)min((int)a, (int)b);
    case Reduce::MaxI: return (u32)max((int)a, (int)b);
    case Reduce::And: return a & b;
    case Reduce::Or: return a | b;
    case Reduce::Xor: return a ^ b;
  }
  return 0;
}
void perform_reduce(u32, u32 lanes, void* const* operands) {
  const Vote& first = *static_cast<Vote*>(operands[__builtin_ctz(lanes)]);
  u32 all = first.value;
  for (u32 rest = lanes & (lanes - 1); rest != 0; rest &= rest - 1) {
    all = joined(first.how, all, static_cast<Vote*>(operands[__builtin_ctz(rest)])->value);
  }
  for (u32 rest = lanes; rest != 0; rest &= rest - 1) static_cast<Vote*>(operands[__builtin_ctz(rest)])->result = all;
}
}  // namespace

// A shuffle orders no memory; this does.
void perform_sync(u32 warp, u32 lanes, void* const*) {
  block->order.meet_lanes(warp, lanes, lanes == block->warps_[warp].alive);
}
void sync_warp(u32 mask, Place place) { block->meet("__syncwarp", mask, nullptr, perform_sync, place); }
u64 shuffle(u32 mask, u64 value, u32 source, Place place) {
  Shuffle mine = {value, 0, source, place};
  block->meet("a shuffle", mask, &mine, perform_shuffle, place);
  return mine.result;
}
u32 ballot(u32 mask, bool vote, Place place) {
  Vote mine = {vote, 0, Reduce::Or};
  block->meet("a vote", mask, &mine, perform_ballot, place);
  return mine.result;
}
u32 reduce(u32 mask, u32 value, Reduce how, Place place) {
  Vote mine = {value, 0, how};
  block->meet("a reduction", mask, &mine, perform_reduce, place);
  return mine.result;
}
}  // namespace interpreter
