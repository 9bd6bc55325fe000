// What is computed row by row: a group of threads shares a row and keeps it in registers, so that memory is read once.
#pragma once
#include "reduce.cuh"
#include "vec.cuh"

// A thread's place in its group: a power of two of a warp's lanes, or, where `lanes` is above 32, the whole block. A block
// goes over rows by `for (u64 at = group.first(); at < n; at += group.step())`, the group's row being at + sub: the number of
// turns is the block's, so that a group beyond the last row (width 0) still takes part in sums and barriers.
struct Group {
  u32 lane, lanes, sub, groups;

  __device__ __forceinline__ explicit Group(u32 lanes) : lanes(lanes) {
    const bool block = lanes > 32;
    lane = block ? threadIdx.x : threadIdx.x & (lanes - 1);
    sub = block ? 0 : threadIdx.x / lanes;
    groups = block ? 1 : blockDim.x / lanes;
  }
  __device__ __forceinline__ u64 first() const { return (u64)blockIdx.x * groups; }
  __device__ __forceinline__ u64 step() const { return (u64)gridDim.x * groups; }

  // Over the group, in every thread of it. `scratch` is 32 floats of shared memory.
  __device__ __forceinline__ float sum(float v, float* scratch) const {
    if (lanes > 32) return block_sum(v, scratch);
    for (u32 o = lanes / 2; o > 0; o /= 2) v += __shfl_xor_sync(FULL_WARP, v, o);
    return v;
  }
  __device__ __forceinline__ float max(float v, float* scratch) const {
    if (lanes > 32) return block_max(v, scratch);
    for (u32 o = lanes / 2; o > 0; o /= 2) v = fmaxf(v, __shfl_xor_sync(FULL_WARP, v, o));
    return v;
  }
};

// Elements of a row that a thread keeps in registers: few where each is loaded alone, as rows that are no whole vectors are
// rare and code for them is long.
template <int N>
constexpr int HELD = N == 1 ? 8 : 32;

// f(k, at) for every piece of N elements of a row of d that is this thread's, at elements at..at + N. The first E elements
// of a thread are unrolled: there k is a constant that names registers; beyond them it is E / N.
template <int N, int E, class F>
__device__ __forceinline__ void pieces(const Group& group, u32 d, F f) {
#pragma unroll
  for (int k = 0; k < E / N; k++) {
    const u32 at = (k * group.lanes + group.lane) * N;
    if (at < d) f(k, at);
  }
  for (u32 at = (E / N * group.lanes + group.lane) * N; at < d; at += group.lanes * N) f(E / N, at);
}

// The elements of a row that a thread holds: E in registers, what is beyond them in memory.
template <class X, int N, int E>
struct Row {
  float v[E / N][N];
  const X* from;

  __device__ __forceinline__ Row(const Group& group, const X* row, u32 d) : from(row) {
#pragma unroll
    for (int k = 0; k < E / N; k++) {
      const u32 at = (k * group.lanes + group.lane) * N;
      if (at < d) load<N>(v[k], row + at);
    }
  }
  __device__ __forceinline__ void get(float (&x)[N], int k, u32 at) const {
    if (k < E / N) {
#pragma unroll
      for (int i = 0; i < N; i++) x[i] = v[k][i];
    } else {
      load<N>(x, from + at);
    }
  }
  // In registers; what is beyond them is the caller's to put in memory.
  __device__ __forceinline__ void set(int k, const float (&x)[N]) {
    if (k < E / N) {
#pragma unroll
      for (int i = 0; i < N; i++) v[k][i] = x[i];
    }
  }
};

// sums[0..d] = what the groups of a block hold of every column, added in the groups' order: in shared memory, or, where one
// group is the block, in the memory that it ends in, of which only the columns in registers are touched.
template <int N, int E>
__device__ __forceinline__ void add_groups(const Group& group, u32 d, const float (&v)[E / N][N], float* sums) {
  for (u32 turn = 0; turn < group.groups; turn++) {
    if (group.sub == turn) {
#pragma unroll
      for (int k = 0; k < E / N; k++) {
        const u32 at = (k * group.lanes + group.lane) * N;
#pragma unroll
        for (int i = 0; i < N; i++) {
          if (at < d) sums[at + i] = turn == 0 ? v[k][i] : sums[at + i] + v[k][i];
        }
      }
    }
    __syncthreads();
  }
}
