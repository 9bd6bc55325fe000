// qk_norm: RMS norm of every head of q and k, times one gain and, if they are learned, the gains of the elements; v is copied.
// A head is a row of d_head: as many lanes as it has vectors of 16 bytes (8 at d_head = 64 in bf16), so that a thread has one
// load. Moves 2 elements for each of y, the floor.
// Backward, with learned gains, a group goes over many rows and keeps the sums of its columns for q and for k in registers; a
// block adds those of its groups in order and columns.cu adds the blocks. 3 elements for each of dqkv.
#include "row.cuh"

struct Heads {
  u64 n;
  u32 heads, normed, queries, d, lanes;
};
constexpr int E = 8;

template <class X, int N>
__device__ __forceinline__ void forward(const X* qkv, const float* gains, X* y, float* stats, Heads dims, float eps,
                                        float gain) {
  STATIC_SHARED(float, scratch, 32);
  const Group group(dims.lanes);
  for (u64 at_row = group.first(); at_row < dims.n * dims.heads; at_row += group.step()) {
    const u64 r = at_row + group.sub, token = quotient(r, dims.heads), first = r * dims.d;
    const u32 head = (u32)(r - token * dims.heads), d = token < dims.n ? dims.d : 0;
    const Row<X, N, E> row(group, qkv + first, d);
    float square = 0.f;
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N];
      row.get(v, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) square += v[i] * v[i];
    });
    const float rstd = 1.f / sqrtf(group.sum(square, scratch) / (float)dims.d + eps);
    const bool normed = head < dims.normed;
    const float factor = normed ? rstd * gain : 1.f;
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N];
      row.get(v, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) v[i] *= factor;
      if (gains && normed) {
        float t[N];
        load<N>(t, gains + (head < dims.queries ? 0 : dims.d) + at);
#pragma unroll
        for (int i = 0; i < N; i++) v[i] *= t[i];
      }
      store<N>(y + first + at, v);
    });
    if (normed && group.lane == 0 && d > 0) stats[token * dims.normed + head] = rstd;
  }
}

// partial f32 [gridDim.x, 2 d_head], if gains are read.
template <class X, int N>
__device__ __forceinline__ void backward(const X* qkv, const float* stats, const X* dy, const float* gains, X* dqkv,
                                         float* partial, Heads dims, float gain) {
  STATIC_SHARED(float, scratch, 32);
  DYN_SHARED(float, block_sums);
  const Group group(dims.lanes);
  float* mine = partial + (u64)blockIdx.x * 2 * dims.d;
  float sums[2][E / N][N] = {};
  if (gains) {
    // Columns beyond the registers are summed in place: a whole block owns them.
    for (u32 at = E * group.lanes + threadIdx.x; at < dims.d; at += blockDim.x) mine[at] = mine[dims.d + at] = 0.f;
    __syncthreads();
  }
  for (u64 at_row = group.first(); at_row < dims.n * dims.heads; at_row += group.step()) {
    const u64 r = at_row + group.sub, token = quotient(r, dims.heads), first = r * dims.d;
    const u32 head = (u32)(r - token * dims.heads), d = token < dims.n ? dims.d : 0;
    const bool normed = head < dims.normed, query = head < dims.queries;
    const Row<X, N, E> row(group, qkv + first, d), gradient(group, dy + first, d);
    const float rstd = normed && d > 0 ? stats[token * dims.normed + head] : 0.f;
    const float* table = gains && normed ? gains + (query ? 0 : dims.d) : nullptr;
    float along = 0.f;
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N], g[N];
      row.get(v, k, at);
      gradient.get(g, k, at);
      if (table) {
        float t[N];
        load<N>(t, table + at);
#pragma unroll
        for (int i = 0; i < N; i++) {
          const float slope = gain * rstd * g[i] * v[i];
          if (k < E / N) {
            sums[0][k < E / N ? k : 0][i] += query ? slope : 0.f;
            sums[1][k < E / N ? k : 0][i] += query ? 0.f : slope;
          } else {
            mine[(query ? 0 : dims.d) + at + i] += slope;
          }
          g[i] *= t[i];
        }
      }
#pragma unroll
      for (int i = 0; i < N; i++) along += g[i] * v[i];
    });
    const float projection = group.sum(along, scratch) * rstd * rstd / (float)dims.d;
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N], g[N];
      row.get(v, k, at);
      gradient.get(g, k, at);
      if (table) {
        float t[N];
        load<N>(t, table + at);
#pragma unroll
        for (int i = 0; i < N; i++) g[i] *= t[i];
      }
#pragma unroll
      for (int i = 0; i < N; i++) g[i] = normed ? gain * rstd * (g[i] - v[i] * projection) : g[i];
      store<N>(dqkv + first + at, g);
    });
  }
  if (!gains) return;
  float* total = group.lanes > 32 ? mine : block_sums;
  add_groups<N, E>(group, dims.d, sums[0], total);
  add_groups<N, E>(group, dims.d, sums[1], total + dims.d);
  if (group.lanes > 32) return;
  for (u32 i = threadIdx.x; i < 2 * dims.d; i += blockDim.x) mine[i] = block_sums[i];
}

template <class X>
__device__ __forceinline__ void forward(const X* qkv, const float* gains, X* y, float* stats, Heads dims, float eps,
                                        float gain) {
  if (dims.d % PIECE<X> == 0) {
    forward<X, PIECE<X>>(qkv, gains, y, stats, dims, eps, gain);
  } else {
    forward<X, 1>(qkv, gains, y, stats, dims, eps, gain);
  }
}
template <class X>
__device__ __forceinline__ void backward(const X* qkv, const float* stats, const X* dy, const float* gains, X* dqkv,
                                         float* partial, Heads dims, float gain) {
  if (dims.d % PIECE<X> == 0) {
    backward<X, PIECE<X>>(qkv, stats, dy, gains, dqkv, partial, dims, gain);
  } else {
    backward<X, 1>(qkv, stats, dy, gains, dqkv, partial, dims, gain);
  }
}

#define QK_NORM_OF(X)                                                                                              \
  const X *qkv, const float *gains, X *y, float *stats, u64 n, u32 heads, u32 normed, u32 queries, u32 d, u32 lanes, \
      float eps, float gain
#define QK_NORM qkv, gains, y, stats, {n, heads, normed, queries, d, lanes}, eps, gain
extern "C" __global__ void __launch_bounds__(256) qk_norm_f32(QK_NORM_OF(float)) { forward<float>(QK_NORM); }
extern "C" __global__ void __launch_bounds__(256) qk_norm_bf16(QK_NORM_OF(bf16)) { forward<bf16>(QK_NORM); }

#define QK_NORM_GRAD_OF(X)                                                                                             \
  const X *qkv, const float *stats, const X *dy, const float *gains, X *dqkv, float *partial, u64 n, u32 heads, u32 normed, \
      u32 queries, u32 d, u32 lanes, float gain
#define QK_NORM_GRAD qkv, stats, dy, gains, dqkv, partial, {n, heads, normed, queries, d, lanes}, gain
extern "C" __global__ void __launch_bounds__(256) qk_norm_grad_f32(QK_NORM_GRAD_OF(float)) {
  backward<float>(QK_NORM_GRAD);
}
extern "C" __global__ void __launch_bounds__(256) qk_norm_grad_bf16(QK_NORM_GRAD_OF(bf16)) {
  backward<bf16>(QK_NORM_GRAD);
}
