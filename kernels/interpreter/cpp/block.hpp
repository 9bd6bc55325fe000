// The block in flight on an OS thread: its threads, what they wait for, and who runs next.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <string>
#include <vector>

#include "fiber.hpp"
#include "interpreted.hpp"
#include "interpreted_ampere.hpp"
#include "interpreted_hopper.hpp"
#include "order.hpp"
#include "memory.hpp"
#include "shadow.hpp"

namespace interpreter {
// What can go wrong, in the order of `Kind` in src/failure.rs.
enum class Fault : u32 {
  None,
  UnknownEntry,
  Arguments,
  Launch,
  Deadlock,
  Divergence,
  Barrier,
  Misaligned,
  OutOfBounds,
  Race,
};

// What the caller is told. Laid out as `Report` in src/lib.rs.
struct Report {
  u32 fault;
  u32 in_block, in_thread;
  u32 block[3], thread[3];
  char text[1000];
};

// Splitmix64: a stream of words from a seed.
struct Rng {
  u64 state = 0;
  u64 next() {
    u64 z = state += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  u32 below(u32 n) { return (u32)((next() >> 32) * n >> 32); }
};

// When asynchronous work happens: as soon as it is asked for, as late as it may, or at a drawn moment.
enum class Timing : u8 { Early, Late, Drawn };

struct Copy {
  void* dst;
  const void* src;
  u32 bytes;
  bool in;
};
struct TensorMap3 {
  const u8* base;
  u64 dims[3];     // columns, rows, matrices
  u64 pitches[2];  // bytes between rows, between matrices
  u32 boxes[3];
  u32 elem_bytes, swizzle;
};
struct TensorCopy {
  TensorMap3 map;
  u8* shared;
  u64* bar;
  int at[3];
  bool add;
  u32 actor, stamp;
};
struct Product {
  u32 n;
  float* d[32];
  u64 a, b;
  u32 registers[32][4];
  bool a_in_registers, accumulate, trans_a, trans_b;
};

// Work in the order it was asked for, in groups: cp.async of a thread, stores of a thread, products of a warp.
template <class Work>
struct Groups {
  std::vector<Work> work;
  struct End {
    size_t work;
    u32 stamp;
  };
  std::vector<End> ends;  // of committed groups
  size_t done = 0;

  void clear() { work.clear(), ends.clear(), done = 0; }
  void commit(u32 stamp) { ends.push_back({work.size(), stamp}); }
  // Does everything up to the last group but `keep`; the stamp of that group, zero where none is over.
  template <class Do>
  u32 wait(size_t keep, Do&& perform) {
    if (ends.size() <= keep) return 0;
    const size_t last = ends.size() - 1 - keep;
    const End end = ends[last];
    for (; done < end.work; done++) perform(work[done]);
    if (keep == 0 && done == work.size()) {
      clear();
    } else {
      ends.erase(ends.begin(), ends.begin() + (long)last + 1);
    }
    return end.stamp;
  }
  template <class Do>
  void finish(Do&& perform) {
    for (; done < work.size(); done++) perform(work[done]);
    clear();
  }
};

enum class State : u8 { Fresh, Ready, Waiting, Done };

struct Thread {
  Ids ids;
  State state;
  void* sp;
  u8* stack;
  // What it waits for, where.
  const char* what;
  const void* object;
  u32 parity;
  Place place;
  Groups<Copy> copies;
  Groups<TensorCopy> stores;
};

// Lanes that meet for one collective operation: the last one performs it for all.
using Perform = void (*)(u32 warp, u32 lanes, void* const* operands);
struct Meeting {
  const char* what;
  u32 mask, arrived;
  Perform perform;
  Place place;
  void* operands[32];
};
// Registers of a warp that a product will write.
struct InFlight {
  u32 n, stamp;
  float* d[32];
};
struct Warp {
  u32 alive;  // lanes that have not returned
  std::vector<InFlight> in_flight;
  std::vector<Meeting> meetings;
  Groups<Product> products;
};
struct Barrier {
  u32 arrived = 0, count = 0;
  Place place{};
  std::vector<u16> waiting;
  Knowledge gathered;
};
// An mbarrier that was initialised: by whom, and what is known of those who arrived.
struct Arrivals {
  u64* bar;
  u32 by, stamp;
  Knowledge gathered, over;
};
struct StaticArray {
  const void* key;
  u8* at;
  size_t bytes;
};

class Block {
 public:
  // Room for shared memory: more than a block may have, so that an access a little beyond still falls into it.
  static constexpr size_t kShared = 256 * 1024;

  Block() = default;
  Block(const Block&) = delete;
  ~Block();
  // Runs one block to its end; false after a failure.
  bool run(const Ids& ids, u32 shared_bytes, void (*body)(void**));
  void begin_launch(u64 seed, Report* report, u32 threads, void** args, const size_t* sizes, size_t count);

  Thread& self() { return threads_[ids->linear]; }
  Warp& warp() { return warps_[ids->linear / 32]; }
  // Gives the processor away until somebody wakes this thread.
  void wait(const char* what, const void* object, Place place);
  void wake(u32 thread);
  void sync(u32 id, u32 count, bool wait, const char* what, Place place);
  void complete(const Meeting& meeting, u32 warp);
  void meet(const char* what, u32 mask, void* mine, Perform perform, Place place);
  void phase_over(const u64* bar, u32 phase);
  void land(size_t pending);
  u8* shared_at(u32 offset, u32 bytes, const char* what, Place place);
  // A load or a store of the running thread.
  void touch(u32 offset, u32 bytes, bool write, u32 from);
  // Whether [at, at + bytes) is a register of the running thread that a product of its warp has still to write.
  bool in_flight(const void* at, u32 bytes) const;
  // An access to memory outside of the block, where the launch says what there is.
  void touch_outside(const void* at, size_t bytes, bool write, const Where& where);
  Arrivals& arrivals(const u64* bar);
  u32 barrier_offset(u32 index) const { return (u32)(reinterpret_cast<u8*>(mbarriers[index].bar) - shared); }

  Rng rng;
  Timing copies = Timing::Early, products = Timing::Early, loads = Timing::Early;
  Report* report = nullptr;
  u32 products_in_flight = 0;
  u32 turn = 0;  // accesses since the running thread got its turn
  void* scheduler = nullptr;  // where the loop that hands out turns continues
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<TensorCopy> pending;  // loads of the copy engine on their way
  std::vector<StaticArray> arrays;
  std::vector<Arrivals> mbarriers;
  Order order;
  Shadow shadow;
  Memory memory;
  u8* shared = nullptr;  // dynamic, then static
  u32 dynamic_bytes = 0, shared_bytes = 0;

 private:
  static void enter();
  void leave();
  bool begin_round();
  void* hand_over();
  void land_sometimes();
  void deadlock();
  void release(Barrier&);

  Stacks stacks_;
  std::vector<u16> round_, next_;
  size_t at_ = 0;
  Barrier barriers_[16];
  u32 alive_ = 0;
  bool shuffled_ = false;
  u32 held_ = 0, held_rounds_ = 0;
  void (*body_)(void**) = nullptr;
  void** args_ = nullptr;
  const size_t* sizes_ = nullptr;
  size_t count_ = 0;
};

// The block of this OS thread.
extern thread_local Block* block __attribute__((tls_model("initial-exec")));

// Ends the launch from within a kernel's thread.
[[noreturn]] void fail(Fault fault, const char* format, ...) __attribute__((format(printf, 2, 3)));
// Notes a failure of the block as a whole; the scheduler stops at the next turn.
void note(Fault fault, const char* format, ...) __attribute__((format(printf, 2, 3)));
void finish_store(const TensorCopy&);
std::string describe_barrier(const Thread&);
// Whether drawn work happens now.
inline bool early(Timing timing) {
  return timing == Timing::Early || (timing == Timing::Drawn && (block->rng.next() & 1) != 0);
}
// 227 KB: what a block of sm_90 may ask for.
constexpr u32 kSharedMost = 227 * 1024;
}  // namespace interpreter
