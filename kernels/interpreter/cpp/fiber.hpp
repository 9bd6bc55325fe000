// Stacks that a program switches between by hand.
#pragma once
#include <cstddef>
#include <vector>

// Saves the callee's registers, stores the stack pointer in *save, continues where `load` was saved.
extern "C" void galatea_interpreter_switch(void** save, void* load);

namespace interpreter {
// The stacks of one OS thread. A thread of a kernel that never waits gives its stack back while it is still in the cache.
class Stacks {
 public:
  static constexpr size_t kBytes = 128 * 1024;

  Stacks() = default;
  Stacks(const Stacks&) = delete;
  ~Stacks();
  // At least `count` stacks, all free. The lowest page of each is a guard.
  void reset(size_t count);
  unsigned char* take();
  void give(unsigned char* stack) { free_.push_back(stack); }
  bool holds(const void* at) const { return at >= base_ && at < base_ + count_ * kBytes; }
  // The stack pointer of a fiber that will begin at `entry`.
  static void* prepare(unsigned char* stack, void (*entry)());

 private:
  void release();

  unsigned char* base_ = nullptr;
  size_t count_ = 0;
  std::vector<unsigned char*> free_;
};
}  // namespace interpreter
