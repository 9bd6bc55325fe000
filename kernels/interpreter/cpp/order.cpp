#include "order.hpp"

#include <algorithm>

namespace interpreter {
void Order::begin_block(u32 threads) {
  if (threads != threads_) {
    threads_ = threads, warps_ = (threads + 31) / 32;
    rows_.assign((size_t)threads * actors(), 0);
  }
  begin_ = floor_ = tick();
  const u32 now = tick();
  now_.assign(threads, now), fenced_.assign(threads, begin_), informed_.assign(threads, 0);
  others_floor_.assign(others(), begin_);
  warp_floor_.assign(warps_, begin_), own_products_.assign(warps_, begin_), own_stores_.assign(warps_, begin_);
  own_copies_.assign(threads, begin_), warp_copies_.assign(threads, begin_);
}

void Order::inform(u32 thread) {
  if (informed_[thread] != 0) return;
  informed_[thread] = 1;
  std::fill_n(row(thread), actors(), 0);
}

void Order::publish(u32 thread, Knowledge& to) {
  to.resize(actors());
  const u32 warp = thread / 32;
  if (informed_[thread] != 0) {
    const u32* mine = row(thread);
    for (u32 i = 0; i < actors(); i++) to[i] = std::max(to[i], mine[i]);
  }
  for (u32 u = 32 * warp; u < std::min(32 * warp + 32, threads_); u++) {
    raise(to[u], warp_floor_[warp]);
    raise(to[copies_of(u)], warp_copies_[u]);
  }
  raise(to[thread], now_[thread]);
  raise(to[copies_of(thread)], own_copies_[thread]);
  raise(to[products_of(warp)], own_products_[warp]);
  raise(to[stores_of(warp)], own_stores_[warp]);
  now_[thread] = tick();
}

void Order::learn(u32 thread, const Knowledge& from) {
  if (from.size() != actors()) return;
  inform(thread);
  u32* mine = row(thread);
  for (u32 i = 0; i < actors(); i++) mine[i] = std::max(mine[i], from[i]);
}

void Order::meet_all() {
  for (u32 t = 0; t < threads_; t++) {
    if (informed_[t] != 0) {
      const u32* known = row(t) + threads_;
      for (u32 i = 0; i < others(); i++) raise(others_floor_[i], known[i]);
      informed_[t] = 0;
    }
    raise(others_floor_[t], own_copies_[t]);
  }
  for (u32 w = 0; w < warps_; w++) {
    raise(others_floor_[products_of(w) - threads_], own_products_[w]);
    raise(others_floor_[stores_of(w) - threads_], own_stores_[w]);
  }
  floor_ = tick();
  std::fill(now_.begin(), now_.end(), tick());
}

void Order::meet_lanes(u32 warp, u32 lanes, bool whole) {
  bool informed = !whole;
  for (u32 rest = lanes; rest != 0; rest &= rest - 1) {
    informed = informed || informed_[32 * warp + (u32)__builtin_ctz(rest)] != 0;
  }
  if (informed) {
    Knowledge all;
    for (u32 rest = lanes; rest != 0; rest &= rest - 1) publish(32 * warp + (u32)__builtin_ctz(rest), all);
    for (u32 rest = lanes; rest != 0; rest &= rest - 1) learn(32 * warp + (u32)__builtin_ctz(rest), all);
  }
  if (!whole) return;
  warp_floor_[warp] = tick();
  const u32 now = tick();
  for (u32 u = 32 * warp; u < std::min(32 * warp + 32, threads_); u++) {
    now_[u] = now;
    warp_copies_[u] = own_copies_[u];
  }
}
}  // namespace interpreter
