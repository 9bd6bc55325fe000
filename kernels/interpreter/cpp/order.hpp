// What happened before what, in one block: the clocks behind the search for races.
//
// An actor is a thread, or something that works on its own: the cp.asyncs of a thread, the products and the stores of a
// warp, the loads that arrive at an mbarrier. Every access carries the actor and a stamp from one counter. A thread knows of
// an actor up to some stamp; barriers pass knowledge on. An access that a thread does not know of is not ordered before it.
#pragma once
#include <vector>

#include "interpreted.hpp"

namespace interpreter {
using Knowledge = std::vector<u32>;  // by actor: the last stamp that is known to be over

class Order {
 public:
  static constexpr u32 kBarriers = 128;

  void begin_block(u32 threads);
  // Whether stamps run out; then what carries old ones must be forgotten.
  bool ends() const { return time_ > 4000000000u; }
  void restart() { time_ = 0; }
  u32 actors() const { return threads_ + others(); }
  u32 copies_of(u32 thread) const { return threads_ + thread; }
  u32 products_of(u32 warp) const { return 2 * threads_ + warp; }
  u32 stores_of(u32 warp) const { return 2 * threads_ + warps_ + warp; }
  u32 loads_at(u32 barrier) const { return 2 * threads_ + 2 * warps_ + barrier; }

  // The stamp of what a thread does now, and a new one for what begins.
  u32 now(u32 thread) const { return now_[thread]; }
  u32 tick() { return ++time_; }

  bool in_block(u32 stamp) const { return stamp > begin_; }

  // Whether what `actor` did at `stamp` is over for `self`.
  bool before(u32 actor, u32 stamp, u32 self) const {
    if (stamp <= begin_) return true;
    if (actor < threads_) {
      if (stamp <= floor_ || actor == self) return true;
      if (actor / 32 == self / 32 && stamp <= warp_floor_[self / 32]) return true;
    } else if (stamp <= others_floor_[actor - threads_] || own(actor, stamp, self)) {
      return true;
    }
    return informed_[self] != 0 && stamp <= row(self)[actor];
  }

  // Everything that `thread` knows and did, into `to`; what it does next is not part of it.
  void publish(u32 thread, Knowledge& to);
  void learn(u32 thread, const Knowledge& from);
  // All threads of the block meet.
  void meet_all();
  // Lanes of a warp meet; `whole` where no other lane is alive.
  void meet_lanes(u32 warp, u32 lanes, bool whole);

  void copies_done(u32 thread, u32 stamp) { raise(own_copies_[thread], stamp); }
  void products_done(u32 warp, u32 stamp) { raise(own_products_[warp], stamp); }
  void stores_done(u32 warp, u32 stamp) { raise(own_stores_[warp], stamp); }

  // Writes of a thread, and of its cp.asyncs, reach the copy engine and wgmma only behind a fence.
  void fence(u32 thread) { fenced_[thread] = time_, now_[thread] = tick(); }
  bool fenced(u32 actor, u32 stamp, u32 self) const {
    if (actor >= 2 * threads_ || stamp <= begin_) return true;
    return stamp <= fenced_[actor % threads_] || stamp <= fenced_[self];
  }

 private:
  static void raise(u32& a, u32 b) { a = a < b ? b : a; }
  u32 others() const { return threads_ + 2 * warps_ + kBarriers; }
  u32* row(u32 thread) { return rows_.data() + (size_t)thread * actors(); }
  const u32* row(u32 thread) const { return rows_.data() + (size_t)thread * actors(); }
  void inform(u32 thread);
  // Whether `self` has waited for what its own thread or warp started.
  bool own(u32 actor, u32 stamp, u32 self) const {
    if (actor < 2 * threads_) {
      const u32 of = actor - threads_;
      return (of == self && stamp <= own_copies_[of]) || (of / 32 == self / 32 && stamp <= warp_copies_[of]);
    }
    return (actor == products_of(self / 32) && stamp <= own_products_[self / 32]) ||
           (actor == stores_of(self / 32) && stamp <= own_stores_[self / 32]);
  }

  u32 threads_ = 0, warps_ = 0;
  u32 time_ = 0, begin_ = 0;
  u32 floor_ = 0;                // everything that threads did up to here is known to all
  std::vector<u32> others_floor_;  // the same for every other actor
  std::vector<u32> warp_floor_;  // by warp: known to all of its lanes
  std::vector<u32> now_, fenced_;
  std::vector<u32> own_copies_, warp_copies_, own_products_, own_stores_;
  // What a thread knows beyond that; meaningless until it learns something after the last meeting of all.
  std::vector<u32> rows_;
  std::vector<u8> informed_;
};
}  // namespace interpreter
