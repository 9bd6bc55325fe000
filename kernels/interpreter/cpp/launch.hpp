// What a file of kernels adds to the table of entries: a function that takes the driver's array of arguments.
#pragma once
#include <cstddef>
#include <type_traits>
#include <utility>

namespace interpreter {
struct Entry {
  const char* name;
  void (*body)(void** args);
  const size_t* sizes;
  size_t count;
};

template <auto Kernel>
struct Thunk;
template <class... A, void (*Kernel)(A...)>
struct Thunk<Kernel> {
  static constexpr size_t kSizes[sizeof...(A) + 1] = {sizeof(A)...};
  static constexpr size_t kCount = sizeof...(A);
  template <size_t... I>
  static void unpack(void** args, std::index_sequence<I...>) {
    Kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<A>>*>(args[I])...);
  }
  static void body(void** args) { unpack(args, std::index_sequence_for<A...>{}); }
};
}  // namespace interpreter
