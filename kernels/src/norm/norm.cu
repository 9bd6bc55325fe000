// Layer norm and RMS norm of rows, with or without a residual before them: s = x + dropout(h), y = (s - mean) rstd gain +
// shift. A warp holds a row of up to 1024 elements in registers, a block a longer one (beyond 32 elements a thread it reads
// them again): x is read once, y written once, and with a residual h read and s written: 2 or 4 elements for each of y, the
// floor.
// Backward: dx = rstd (g - mean(g) - h mean(g h)) + plus, with g = dy gain and h the normalised row, dh = dropout(dx). A group
// goes over many rows and keeps the column sums of its own columns in registers; a block adds those of its groups in order
// and columns.cu adds the blocks. 3 elements for each of dx (4 with plus, 5 with dh).
#include "draws.cuh"
#include "row.cuh"

struct Shape {
  u64 n;
  u32 d, lanes, layer;
};
struct Tables {
  const float *gain, *shift;
};

template <class X, bool ADD, int N>
__device__ __forceinline__ void forward(const X* x, const X* h, Mask mask, Tables tables, X* y, X* s, float* stats,
                                        Shape shape, float eps) {
  constexpr int E = HELD<N>;
  STATIC_SHARED(float, scratch, 32);
  const Group group(shape.lanes);
  const float count = (float)shape.d;
  for (u64 at_row = group.first(); at_row < shape.n; at_row += group.step()) {
    const u64 n = at_row + group.sub, first = n * shape.d;
    const u32 d = n < shape.n ? shape.d : 0;
    Row<X, N, E> row(group, x + first, d);
    if constexpr (ADD) {
      const Row<X, N, E> residual(group, h + first, d);
      pieces<N, E>(group, d, [&](int k, u32 at) {
        float a[N], b[N];
        row.get(a, k, at);
        residual.get(b, k, at);
        if (mask.rng) mask.apply(b, n, at);
#pragma unroll
        for (int i = 0; i < N; i++) a[i] = to_f32(from_f32<X>(a[i] + b[i]));
        store<N>(s + first + at, a);
        row.set(k, a);
      });
      row.from = s + first;
    }
    float mean = 0.f, square = 0.f;
    if (shape.layer) {
      pieces<N, E>(group, d, [&](int k, u32 at) {
        float v[N];
        row.get(v, k, at);
#pragma unroll
        for (int i = 0; i < N; i++) mean += v[i];
      });
      mean = group.sum(mean, scratch) / count;
    }
    // Around the mean: a large mean costs no accuracy.
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N];
      row.get(v, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) square += (v[i] - mean) * (v[i] - mean);
    });
    const float rstd = 1.f / sqrtf(group.sum(square, scratch) / count + eps);
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N];
      row.get(v, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) v[i] = (v[i] - mean) * rstd;
      if (tables.gain) {
        float t[N];
        load<N>(t, tables.gain + at);
#pragma unroll
        for (int i = 0; i < N; i++) v[i] *= t[i];
      }
      if (tables.shift) {
        float t[N];
        load<N>(t, tables.shift + at);
#pragma unroll
        for (int i = 0; i < N; i++) v[i] += t[i];
      }
      store<N>(y + first + at, v);
    });
    if (group.lane == 0 && d > 0) {
      if (shape.layer) {
        stats[2 * n] = mean;
        stats[2 * n + 1] = rstd;
      } else {
        stats[n] = rstd;
      }
    }
  }
}

template <class X, bool ADD>
__device__ __forceinline__ void forward(const X* x, const X* h, Mask mask, Tables tables, X* y, X* s, float* stats,
                                        Shape shape, float eps) {
  if (shape.d % PIECE<X> == 0) {
    forward<X, ADD, PIECE<X>>(x, h, mask, tables, y, s, stats, shape, eps);
  } else {
    forward<X, ADD, 1>(x, h, mask, tables, y, s, stats, shape, eps);
  }
}

#define NORM_OF(X)                                                                                                   \
  const X *x, const float *gain, const float *shift, X *y, float *stats, u64 n, u32 d, u32 lanes, u32 layer, float eps
#define NORM x, nullptr, {}, {gain, shift}, y, nullptr, stats, {n, d, lanes, layer}, eps
extern "C" __global__ void __launch_bounds__(512) norm_f32(NORM_OF(float)) { forward<float, false>(NORM); }
extern "C" __global__ void __launch_bounds__(512) norm_bf16(NORM_OF(bf16)) { forward<bf16, false>(NORM); }

#define ADD_NORM_OF(X)                                                                                         \
  const X *x, const X *h, const float *gain, const float *shift, const u32 *rng, X *y, X *s, float *stats, u64 n, u32 d, \
      u32 lanes, u32 layer, float eps, u32 stream, u32 least, float scale
#define ADD_NORM x, h, {rng, stream, least, scale}, {gain, shift}, y, s, stats, {n, d, lanes, layer}, eps
extern "C" __global__ void __launch_bounds__(256) add_norm_f32(ADD_NORM_OF(float)) { forward<float, true>(ADD_NORM); }
extern "C" __global__ void __launch_bounds__(256) add_norm_bf16(ADD_NORM_OF(bf16)) { forward<bf16, true>(ADD_NORM); }

// The sums of a block's columns, gain before shift: f32 [gridDim.x, tables d].
struct ColumnSums {
  float* partial;
  bool gain, shift;
};

template <class X, int N>
__device__ __forceinline__ void backward(const X* x, const float* stats, const X* dy, const X* plus, const float* gain,
                                         Mask mask, X* dx, X* dh, ColumnSums columns, Shape shape) {
  constexpr int E = HELD<N>;
  STATIC_SHARED(float, scratch, 32);
  DYN_SHARED(float, block_sums);
  const Group group(shape.lanes);
  const u32 width = shape.d * ((columns.gain ? 1 : 0) + (columns.shift ? 1 : 0)), shift_at = columns.gain ? shape.d : 0;
  const float count = (float)shape.d;
  float* mine = columns.partial + (u64)blockIdx.x * width;
  float gain_sums[E / N][N] = {}, shift_sums[E / N][N] = {};
  // Columns beyond the registers are summed in place: a whole block owns them.
  for (u32 at = E * group.lanes + threadIdx.x; at < shape.d; at += blockDim.x) {
    if (columns.gain) mine[at] = 0.f;
    if (columns.shift) mine[shift_at + at] = 0.f;
  }
  __syncthreads();
  for (u64 at_row = group.first(); at_row < shape.n; at_row += group.step()) {
    const u64 n = at_row + group.sub, first = n * shape.d;
    const u32 d = n < shape.n ? shape.d : 0;
    const Row<X, N, E> row(group, x + first, d), gradient(group, dy + first, d);
    float mean = 0.f, rstd = 0.f;
    if (d > 0) {
      if (shape.layer) mean = stats[2 * n];
      rstd = shape.layer ? stats[2 * n + 1] : stats[n];
    }
    float average = 0.f, projection = 0.f;
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N], g[N];
      row.get(v, k, at);
      gradient.get(g, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) v[i] = (v[i] - mean) * rstd;
      if (k < E / N) {
#pragma unroll
        for (int i = 0; i < N; i++) {
          gain_sums[k][i] += g[i] * v[i];
          shift_sums[k][i] += g[i];
        }
      } else {
#pragma unroll
        for (int i = 0; i < N; i++) {
          if (columns.gain) mine[at + i] += g[i] * v[i];
          if (columns.shift) mine[shift_at + at + i] += g[i];
        }
      }
      if (gain) {
        float t[N];
        load<N>(t, gain + at);
#pragma unroll
        for (int i = 0; i < N; i++) g[i] *= t[i];
      }
#pragma unroll
      for (int i = 0; i < N; i++) {
        average += g[i];
        projection += g[i] * v[i];
      }
    });
    average = shape.layer ? group.sum(average, scratch) / count : 0.f;
    projection = group.sum(projection, scratch) / count;
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N], g[N];
      row.get(v, k, at);
      gradient.get(g, k, at);
      if (gain) {
        float t[N];
        load<N>(t, gain + at);
#pragma unroll
        for (int i = 0; i < N; i++) g[i] *= t[i];
      }
#pragma unroll
      for (int i = 0; i < N; i++) g[i] = rstd * (g[i] - average - (v[i] - mean) * rstd * projection);
      if (plus) {
        float t[N];
        load<N>(t, plus + first + at);
#pragma unroll
        for (int i = 0; i < N; i++) g[i] += t[i];
      }
      store<N>(dx + first + at, g);
      if (dh) {
#pragma unroll
        for (int i = 0; i < N; i++) g[i] = to_f32(from_f32<X>(g[i]));
        mask.apply(g, n, at);
        store<N>(dh + first + at, g);
      }
    });
  }
  if (width == 0) return;
  float* sums = group.lanes > 32 ? mine : block_sums;
  if (columns.gain) add_groups<N, E>(group, shape.d, gain_sums, sums);
  if (columns.shift) add_groups<N, E>(group, shape.d, shift_sums, sums + shift_at);
  if (group.lanes > 32) return;
  for (u32 i = threadIdx.x; i < width; i += blockDim.x) mine[i] = block_sums[i];
}

template <class X>
__device__ __forceinline__ void backward(const X* x, const float* stats, const X* dy, const X* plus, const float* gain,
                                         Mask mask, X* dx, X* dh, ColumnSums columns, Shape shape) {
  if (shape.d % PIECE<X> == 0) {
    backward<X, PIECE<X>>(x, stats, dy, plus, gain, mask, dx, dh, columns, shape);
  } else {
    backward<X, 1>(x, stats, dy, plus, gain, mask, dx, dh, columns, shape);
  }
}

#define NORM_GRAD_OF(X)                                                                                          \
  const X *x, const float *stats, const X *dy, const X *plus, const float *gain, const u32 *rng, X *dx, X *dh,   \
      float *partial, u64 n, u32 d, u32 lanes, u32 layer, u32 has_gain, u32 has_shift, u32 stream, u32 least, float scale
#define NORM_GRAD                                                                                        \
  x, stats, dy, plus, gain, {rng, stream, least, scale}, dx, dh, {partial, has_gain != 0, has_shift != 0}, \
      {n, d, lanes, layer}
extern "C" __global__ void __launch_bounds__(256) norm_grad_f32(NORM_GRAD_OF(float)) { backward<float>(NORM_GRAD); }
extern "C" __global__ void __launch_bounds__(256) norm_grad_bf16(NORM_GRAD_OF(bf16)) { backward<bf16>(NORM_GRAD); }
