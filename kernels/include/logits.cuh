// Rows of logits, some of whose columns are left out.
#pragma once
#include "row.cuh"

// A column that no row has.
constexpr u32 NO_COLUMN = 0xffffffffu;

// A row of v logits held by a group, without the K columns of `out`.
template <int N, int K>
struct Logits {
  static constexpr int E = HELD<N>;
  const Group& group;
  Row<float, N, E> row;
  u32 v, out[K];

  __device__ __forceinline__ Logits(const Group& group, const float* logits, u32 v) : group(group), row(group, logits, v), v(v) {}

  __device__ __forceinline__ bool in(u32 column) const {
    bool stays = true;
#pragma unroll
    for (int k = 0; k < K; k++) stays = stays && column != out[k];
    return stays;
  }
  // The largest one that is not left out.
  __device__ __forceinline__ float max(float* scratch) const {
    float top = -F32_INF;
    pieces<N, E>(group, v, [&](int k, u32 at) {
      float x[N];
      row.get(x, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) top = in(at + i) ? fmaxf(top, x[i]) : top;
    });
    return group.max(top, scratch);
  }
  // The sum of f over those that are not left out.
  template <class F>
  __device__ __forceinline__ float sum(float* scratch, F f) const {
    float total = 0.f;
    pieces<N, E>(group, v, [&](int k, u32 at) {
      float x[N];
      row.get(x, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) total += in(at + i) ? f(x[i]) : 0.f;
    });
    return group.sum(total, scratch);
  }
  // y = f(column, logit) for every column.
  template <class F>
  __device__ __forceinline__ void map(float* y, F f) const {
    pieces<N, E>(group, v, [&](int k, u32 at) {
      float x[N];
      row.get(x, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) x[i] = f(at + i, x[i]);
      store<N>(y + at, x);
    });
  }
};
