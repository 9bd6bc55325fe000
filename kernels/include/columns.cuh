// Sums of rows, column by column: a lane holds N columns, the warps of a block share the rows, in a fixed order.
#pragma once
#include "vec.cuh"

// What a block sums: `parts` blocks share the `count` rows of a segment, `per` each, and `tiles` the columns.
struct Share {
  u64 segment, first, end;
  u32 part, col;

  template <int N>
  __device__ __forceinline__ Share(Width<N>, u32 tiles, u32 parts, u64 per, u64 count) {
    const u32 tile = blockIdx.x % tiles, rest = blockIdx.x / tiles;
    segment = rest / parts;
    part = rest % parts;
    col = (tile * 32 + (threadIdx.x & 31)) * N;
    first = part * per + (threadIdx.x >> 5);
    end = (part + 1) * per < count ? (part + 1) * per : count;
  }
};

// The sums of all warps, in warp 0. `shared` is 32 K N floats a warp.
template <int K, int N>
__device__ __forceinline__ void across_warps(float (&sums)[K][N], float* shared) {
  const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  if (warps == 1) return;
  const auto at = [&](u32 w, u32 j) -> float& { return shared[(w * K * N + j) * 32 + lane]; };
#pragma unroll
  for (int j = 0; j < K * N; j++) at(warp, j) = sums[j / N][j % N];
  __syncthreads();
  for (u32 j = warp; j < K * N; j += warps) {
    float total = at(0, j);
    for (u32 w = 1; w < warps; w++) total += at(w, j);
    at(0, j) = total;
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < K * N; j++) sums[j / N][j % N] = at(0, j);
}
