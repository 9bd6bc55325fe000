// modulate: y = x (1 + scale) + shift; gate: y = x + gate h; a factor of a text for all its positions, in m [b, chunks d].
// Forward, one vector of 16 bytes a thread: 2 (modulate) or 3 (gate) elements move for each of y, m stays in cache.
// Backward, a block sums some columns over some positions of a text and writes dx = dy factor on the way: 3 elements move.
// The sums of a text are written by the block itself if it has all its positions, else to scratch and summed by columns.cu.
#include "columns.cuh"

template <class X>
__device__ __forceinline__ void modulate(const X* x, const X* m, X* y, u64 rows, u32 d, u32 len, u32 chunks, u32 shift,
                                         u32 scale) {
  each_in_rows<PIECE<X>>(rows, d, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    const X* of = m + quotient(row, len) * chunks * d + col;
    float v[N], a[N], b[N];
    load<N>(v, x + row * d + col);
    load<N>(a, of + (u64)scale * d);
    load<N>(b, of + (u64)shift * d);
#pragma unroll
    for (int i = 0; i < N; i++) v[i] = v[i] * (1.f + a[i]) + b[i];
    store<N>(y + row * d + col, v);
  });
}

template <class X>
__device__ __forceinline__ void gate(const X* x, const X* h, const X* m, X* y, u64 rows, u32 d, u32 len, u32 chunks,
                                     u32 index) {
  each_in_rows<PIECE<X>>(rows, d, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    float v[N], w[N], g[N];
    load<N>(v, x + row * d + col);
    load<N>(w, h + row * d + col);
    load<N>(g, m + (quotient(row, len) * chunks + index) * d + col);
#pragma unroll
    for (int i = 0; i < N; i++) v[i] += g[i] * w[i];
    store<N>(y + row * d + col, v);
  });
}

// Where the sums of a block go: to dm if a text has one part, else to partial f32 [b, parts, K, d].
struct Sums {
  u32 tiles, parts;
  u64 per;
  u32 chunks, shift, scale;
};

// dx = dy (PLUS + factor), sums of dy x to chunk `scale` and, if SHIFT, of dy to chunk `shift`, zeros to the others.
template <class X, bool SHIFT, int N>
__device__ __forceinline__ void gradient(const X* x, const X* m, const X* dy, X* dx, X* dm, float* partial, u32 d,
                                         u32 len, Sums to) {
  constexpr int K = SHIFT ? 2 : 1;
  DYN_SHARED(float, shared);
  const Share share(Width<N>{}, to.tiles, to.parts, to.per, len);
  const bool in = share.col < d;
  const u64 chunk = share.segment * to.chunks;
  float sums[K][N] = {};
  if (in) {
    float factor[N];
    load<N>(factor, m + (chunk + to.scale) * d + share.col);
#pragma unroll
    for (int i = 0; i < N; i++) factor[i] += SHIFT ? 1.f : 0.f;
#pragma unroll 2
    for (u64 l = share.first; l < share.end; l += blockDim.x >> 5) {
      const u64 at = (share.segment * len + l) * d + share.col;
      float v[N], g[N];
      load<N>(v, x + at);
      load<N>(g, dy + at);
#pragma unroll
      for (int i = 0; i < N; i++) {
        sums[0][i] += g[i] * v[i];
        if constexpr (SHIFT) sums[1][i] += g[i];
        g[i] *= factor[i];
      }
      store<N>(dx + at, g);
    }
  }
  across_warps(sums, shared);
  if (!in || threadIdx.x >= 32) return;
  if (share.part == 0) {
    const float zeros[N] = {};
    for (u32 c = 0; c < to.chunks; c++) {
      if (c != to.scale && !(SHIFT && c == to.shift)) store<N>(dm + (chunk + c) * d + share.col, zeros);
    }
  }
  if (to.parts == 1) {
    store<N>(dm + (chunk + to.scale) * d + share.col, sums[0]);
    if constexpr (SHIFT) store<N>(dm + (chunk + to.shift) * d + share.col, sums[1]);
  } else {
    float* mine = partial + (share.segment * to.parts + share.part) * K * d + share.col;
    store<N>(mine, sums[0]);
    if constexpr (SHIFT) store<N>(mine + d, sums[1]);
  }
}

template <class X, bool SHIFT>
__device__ __forceinline__ void backward(const X* x, const X* m, const X* dy, X* dx, X* dm, float* partial, u32 d, u32 len,
                                         Sums to) {
  if (d % PIECE<X> == 0) {
    gradient<X, SHIFT, PIECE<X>>(x, m, dy, dx, dm, partial, d, len, to);
  } else {
    gradient<X, SHIFT, 1>(x, m, dy, dx, dm, partial, d, len, to);
  }
}

extern "C" __global__ void modulate_f32(const float* x, const float* m, float* y, u64 rows, u32 d, u32 len, u32 chunks,
                                        u32 shift, u32 scale) {
  modulate(x, m, y, rows, d, len, chunks, shift, scale);
}
extern "C" __global__ void modulate_bf16(const bf16* x, const bf16* m, bf16* y, u64 rows, u32 d, u32 len, u32 chunks,
                                         u32 shift, u32 scale) {
  modulate(x, m, y, rows, d, len, chunks, shift, scale);
}
extern "C" __global__ void gate_f32(const float* x, const float* h, const float* m, float* y, u64 rows, u32 d, u32 len,
                                    u32 chunks, u32 index) {
  gate(x, h, m, y, rows, d, len, chunks, index);
}
extern "C" __global__ void gate_bf16(const bf16* x, const bf16* h, const bf16* m, bf16* y, u64 rows, u32 d, u32 len,
                                     u32 chunks, u32 index) {
  gate(x, h, m, y, rows, d, len, chunks, index);
}

#define GRADIENT_OF(X)                                                                                              \
  const X *x, const X *m, const X *dy, X *dx, X *dm, float *partial, u32 d, u32 len, u32 tiles, u32 parts, u64 per, \
      u32 chunks, u32 shift, u32 scale
#define GRADIENT x, m, dy, dx, dm, partial, d, len, {tiles, parts, per, chunks, shift, scale}
extern "C" __global__ void __launch_bounds__(512) modulate_grad_f32(GRADIENT_OF(float)) { backward<float, true>(GRADIENT); }
extern "C" __global__ void __launch_bounds__(512) modulate_grad_bf16(GRADIENT_OF(bf16)) { backward<bf16, true>(GRADIENT); }
extern "C" __global__ void __launch_bounds__(512) gate_grad_f32(GRADIENT_OF(float)) { backward<float, false>(GRADIENT); }
extern "C" __global__ void __launch_bounds__(512) gate_grad_bf16(GRADIENT_OF(bf16)) { backward<bf16, false>(GRADIENT); }
