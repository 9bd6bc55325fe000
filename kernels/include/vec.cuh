// Elements in vectors of 16 bytes, and the loops of kernels that touch every element once. The lambdas that these loops take
// bear no mark: NVRTC is told that such functions are the device's.
#pragma once
#include "base.cuh"

// A number of elements as a type, so that a body is compiled for it.
template <int N>
struct Width {
  static constexpr int n = N;
};
// Elements of X in 16 bytes.
template <class X>
constexpr int PIECE = 16 / (int)sizeof(X);

// N elements from `at` on as floats, and back: one of any alignment, or 4 or 8 aligned to 16 bytes (4 of bf16: to 8).
template <int N, class X>
__device__ __forceinline__ void load(float (&x)[N], const X* at) {
  static_assert(N == 1 || N == 4 || N == 8, "a width that memory has");
  if constexpr (N == 1) {
    x[0] = to_f32(*at);
  } else if constexpr (N == 4) {
    const f32x4 y = load4(at);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = y.v[i];
  } else {
    load8(x, at);
  }
}
template <int N, class X>
__device__ __forceinline__ void store(X* at, const float (&x)[N]) {
  static_assert(N == 1 || N == 4 || N == 8, "a width that memory has");
  if constexpr (N == 1) {
    *at = from_f32<X>(x[0]);
  } else if constexpr (N == 4) {
    store4(at, {{x[0], x[1], x[2], x[3]}});
  } else {
    store8(at, x);
  }
}

// Which thread of the grid.
__device__ __forceinline__ u64 grid_thread() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

// a / b, in 32 bits where they suffice.
__device__ __forceinline__ u64 quotient(u64 a, u32 b) { return a >> 32 == 0 ? (u64)((u32)a / b) : a / b; }

// f(width, i) for the elements i.. of n that are this thread's: N of them, or the last ones one by one.
template <int N, class F>
__device__ __forceinline__ void each(u64 n, F f) {
  const u64 from = N * grid_thread();
  if (from + N <= n) {
    f(Width<N>{}, from);
  } else {
    for (u64 i = from; i < n; i++) f(Width<1>{}, i);
  }
}

// f(width, row, col) for the elements col.. of a row of d that are this thread's: N of them where N divides d, else one.
template <int N, class F>
__device__ __forceinline__ void each_in_rows(u64 rows, u32 d, F f) {
  const bool whole = d % N == 0;
  const u64 from = grid_thread() * (whole ? N : 1);
  if (from >= rows * d) return;
  const u64 row = quotient(from, d);
  const u32 col = (u32)(from - row * d);
  if (whole) {
    f(Width<N>{}, row, col);
  } else {
    f(Width<1>{}, row, col);
  }
}
