// Who runs next, who waits, and what is said when nobody can go on.
#include "block.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace interpreter {
thread_local Ids* ids = nullptr;
thread_local Block* block = nullptr;

namespace {
// Shared memory lies between pages that nobody may touch.
constexpr size_t kGuard = 64 * 1024;

void write(Report& report, Fault fault, const char* format, va_list arguments) {
  report.fault = (u32)fault;
  report.in_block = 1;
  vsnprintf(report.text, sizeof report.text, format, arguments);
}
}  // namespace

Block::~Block() {
  if (shared != nullptr) munmap(shared - kGuard, kShared + 2 * kGuard);
}

void fail(Fault fault, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  Report& report = *block->report;
  write(report, fault, format, arguments);
  va_end(arguments);
  report.in_thread = 1;
  const Dim3 t = ids->thread;
  report.thread[0] = t.x, report.thread[1] = t.y, report.thread[2] = t.z;
  void* abandoned;
  galatea_interpreter_switch(&abandoned, block->scheduler);
  std::abort();
}

void note(Fault fault, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  write(*block->report, fault, format, arguments);
  va_end(arguments);
}

void Block::begin_launch(u64 seed, Report* to, u32 threads, void** args, const size_t* sizes, size_t count) {
  report = to;
  args_ = args, sizes_ = sizes, count_ = count;
  rng.state = seed * 0xD1342543DE82EF95ull + 1;
  shuffled_ = seed != 0;
  // Every third seed is the latest possible, the others mix; seed 0 is the order of the program.
  const Timing drawn = seed == 0 ? Timing::Early : seed % 3 == 1 ? Timing::Late : Timing::Drawn;
  copies = loads = drawn;
  products = seed == 0 ? Timing::Early : (seed & 1) != 0 ? Timing::Late : Timing::Drawn;
  if (threads_.size() < threads) threads_.resize(threads);
  warps_.resize((threads + 31) / 32);
  stacks_.reset(threads);
  if (shared == nullptr) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* at = mmap(nullptr, kShared + 2 * kGuard, PROT_NONE, flags, -1, 0);
    if (at == MAP_FAILED) std::abort();
    shared = static_cast<u8*>(at) + kGuard;
    mprotect(shared, kShared, PROT_READ | PROT_WRITE);
  }
}

bool Block::run(const Ids& base, u32 dynamic, void (*body)(void**)) {
  const u32 count = base.threads.x * base.threads.y * base.threads.z;
  body_ = body, alive_ = count, dynamic_bytes = shared_bytes = dynamic;
  memset(shared, 0xff, dynamic);  // NaN: reading what nobody wrote shows
  arrays.clear(), pending.clear(), mbarriers.clear(), round_.clear(), next_.clear();
  if (order.ends()) order.restart(), shadow.forget();
  order.begin_block(count);
  shadow.begin_block();
  memory.begin_block();
  at_ = 0, held_rounds_ = 0, products_in_flight = 0;
  for (Barrier& barrier : barriers_) barrier.arrived = 0, barrier.waiting.clear(), barrier.gathered.clear();
  for (u32 w = 0; w < warps_.size(); w++) {
    const u32 lanes = std::min(count - 32 * w, 32u);
    warps_[w].alive = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
    warps_[w].meetings.clear(), warps_[w].products.clear(), warps_[w].in_flight.clear();
  }
  const Dim3 n = base.threads;
  for (u32 i = 0; i < count; i++) {
    Thread& t = threads_[i];
    t.ids = base;
    t.ids.thread = {i % n.x, i / n.x % n.y, i / n.x / n.y}, t.ids.linear = i;
    t.state = State::Fresh, t.stack = nullptr;
    t.copies.clear(), t.stores.clear();
    next_.push_back((u16)i);
  }
  while (report->fault == 0 && begin_round()) {
    while (at_ < round_.size() && report->fault == 0) {
      galatea_interpreter_switch(&scheduler, hand_over());
      Thread& t = self();  // whoever came back here
      if (t.state == State::Done) stacks_.give(t.stack);
      land_sometimes();
    }
  }
  return report->fault == 0;
}

// The turn goes to the next thread of the round: where it continues.
void* Block::hand_over() {
  Thread& t = threads_[round_[at_++]];
  if (t.state == State::Fresh) {
    t.stack = stacks_.take();
    t.sp = Stacks::prepare(t.stack, enter);
  }
  t.state = State::Ready;
  ids = &t.ids;
  turn = 0;
  return t.sp;
}

void Block::land_sometimes() {
  if (!pending.empty() && loads == Timing::Drawn && (rng.next() & 15) == 0) land(rng.below((u32)pending.size()));
}

// The next round: those woken in the last, in a drawn order. False at the end, and when nobody can go on.
bool Block::begin_round() {
  while (next_.empty() && !pending.empty()) land(rng.below((u32)pending.size()));
  if (report->fault != 0) return false;
  if (next_.empty()) {
    if (alive_ != 0) deadlock();
    return false;
  }
  if (loads == Timing::Drawn && !pending.empty()) land(rng.below((u32)pending.size()));
  round_.swap(next_);
  next_.clear();
  at_ = 0;
  if (!shuffled_) return true;
  for (size_t i = round_.size(); i > 1; i--) std::swap(round_[i - 1], round_[rng.below((u32)i)]);
  // One warp is held back for a while: what hardware does only once in a long run.
  if (held_rounds_ == 0) held_ = rng.below((u32)warps_.size() + 1), held_rounds_ = 1 + rng.below(64);
  held_rounds_--;
  const auto held = [this](u16 t) { return t / 32u == held_; };
  const auto middle = std::stable_partition(round_.begin(), round_.end(), [&](u16 t) { return !held(t); });
  if (middle == round_.begin()) {
    held_rounds_ = 0;
  } else {
    next_.assign(middle, round_.end());
    round_.erase(middle, round_.end());
  }
  return true;
}

void Block::enter() {
  block->body_(block->args_);
  block->leave();
  std::abort();
}

// The running thread has returned: it counts no more where others wait for all.
void Block::leave() {
  Thread& t = self();
  t.stores.finish([](const TensorCopy& copy) { finish_store(copy); });
  t.state = State::Done;
  alive_--;
  Warp& w = warp();
  w.alive &= ~(1u << (t.ids.linear & 31));
  for (size_t i = 0; i < w.meetings.size();) {
    Meeting m = w.meetings[i];
    if (m.arrived != (m.mask & w.alive)) {
      i++;
      continue;
    }
    w.meetings.erase(w.meetings.begin() + (long)i);
    complete(m, t.ids.linear / 32);
  }
  if (barriers_[0].count == 0 && barriers_[0].arrived != 0 && barriers_[0].arrived == alive_) release(barriers_[0]);
  void* never;
  galatea_interpreter_switch(&never, scheduler);
}

void Block::wait(const char* what, const void* object, Place place) {
  Thread& t = self();
  t.state = State::Waiting, t.what = what, t.object = object, t.place = place;
  // Straight to the next of this round, where there is one: half the switches.
  land_sometimes();
  galatea_interpreter_switch(&t.sp, at_ < round_.size() && report->fault == 0 ? hand_over() : scheduler);
}

void Block::wake(u32 thread) {
  threads_[thread].state = State::Ready;
  next_.push_back((u16)thread);
}

// Who waits where, grouped, with the first thread of each group.
void Block::deadlock() {
  std::string text;
  std::vector<bool> told(threads_.size());
  const u32 count = threads_[0].ids.threads.x * threads_[0].ids.threads.y * threads_[0].ids.threads.z;
  for (u32 i = 0; i < count; i++) {
    const Thread& t = threads_[i];
    if (t.state == State::Done || told[i]) continue;
    u32 same = 0;
    for (u32 j = i; j < count; j++) {
      const Thread& o = threads_[j];
      if (o.state == State::Done || o.what != t.what || o.place.line != t.place.line || o.object != t.object) continue;
      told[j] = true;
      same++;
    }
    char line[256];
    snprintf(line, sizeof line, "%s%u threads from (%u,%u,%u) wait at %s, %s:%u", text.empty() ? "" : "; ", same,
             t.ids.thread.x, t.ids.thread.y, t.ids.thread.z, t.what, t.place.file, t.place.line);
    text += line;
    text += describe_barrier(t);
  }
  note(Fault::Deadlock, "nobody can go on: %s", text.c_str());
}

u8* Block::shared_at(u32 offset, u32 bytes, const char* what, Place place) {
  if (offset + bytes > shared_bytes) {
    fail(Fault::OutOfBounds, "%s reads %u bytes at %u of %u of shared memory, at %s:%u", what, bytes, offset,
         shared_bytes, place.file, place.line);
  }
  return shared + offset;
}

u8* dynamic_shared() { return block->shared; }

u32 shared_offset(const void* p, Place place) {
  const ptrdiff_t offset = static_cast<const u8*>(p) - block->shared;
  if (offset < 0 || offset > (ptrdiff_t)block->shared_bytes) {
    fail(Fault::OutOfBounds, "an address outside of shared memory where one inside is needed, at %s:%u", place.file,
         place.line);
  }
  return (u32)offset;
}

void* static_shared(const void* key, size_t bytes, size_t align) {
  for (const StaticArray& array : block->arrays) {
    if (array.key == key) return array.at;
  }
  const size_t start = (block->shared_bytes + std::max<size_t>(align, 16) - 1) / std::max<size_t>(align, 16) *
                       std::max<size_t>(align, 16);
  if (start + bytes > kSharedMost) {
    fail(Fault::Launch, "%zu bytes of shared memory with its static arrays; a block has %u", start + bytes, kSharedMost);
  }
  u8* at = block->shared + start;
  memset(at, 0xff, bytes);
  block->arrays.push_back({key, at, bytes});
  block->shared_bytes = (u32)(start + bytes);
  return at;
}
}  // namespace interpreter
