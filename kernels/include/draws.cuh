// Random words of the elements of a row: those that the CPU's kernels take.
#pragma once
#include "philox.cuh"

// The words of elements col..col + N of `row`; rng is (seed low, seed high, step, 0) and N > 1 divides col.
template <int N>
__device__ __forceinline__ void row_words(u32 (&words)[N], const u32* rng, u32 stream, u64 row, u32 col) {
  const u64 seed = (u64)rng[1] << 32 | rng[0];
  if constexpr (N == 1) {
    const u32x4 w = philox_block(seed, stream, rng[2], (u32)row, col / 4);
    const u32 low = col & 1 ? w.y : w.x, high = col & 1 ? w.w : w.z;
    words[0] = col & 2 ? high : low;
  } else {
#pragma unroll
    for (int i = 0; i < N / 4; i++) {
      const u32x4 w = philox_block(seed, stream, rng[2], (u32)row, col / 4 + i);
      words[4 * i] = w.x, words[4 * i + 1] = w.y, words[4 * i + 2] = w.z, words[4 * i + 3] = w.w;
    }
  }
}

// Two words as a number in the open interval (0, 1), exact: (top 52 bits + 1/2) / 2^52.
__device__ __forceinline__ double unit_f64(u32 high, u32 low) {
  const u64 bits = ((u64)high << 32 | low) >> 12;
  return ((double)bits + 0.5) * (1.0 / 4503599627370496.0);
}

// A dropout mask: an element stays, times `scale`, where its word is at least `least`. No mask where rng is null.
struct Mask {
  const u32* rng;
  u32 stream, least;
  float scale;

  // x = x keep / (1 - p) for elements col..col + N of `row`.
  template <int N>
  __device__ __forceinline__ void apply(float (&x)[N], u64 row, u32 col) const {
    u32 words[N];
    row_words<N>(words, rng, stream, row, col);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = words[i] >= least ? x[i] * scale : 0.f;
  }
};
