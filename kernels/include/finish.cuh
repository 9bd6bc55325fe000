// What happens to the sums of a matrix product: from a warp's registers through its own piece of shared memory, so that
// global memory sees rows of 16-byte pieces, and code that depends on an epilogue exists once a kernel instead of once a
// register.
#pragma once
#include "activation.cuh"
#include "adamw.cuh"

// A warp's piece: 16 rows of 64 sums. Eights are permuted by the row, so that neither the fragments of a product nor rows of
// fours meet a bank twice.
constexpr int STAGE_ROWS = 16, STAGE_COLS = 64, STAGE_FLOATS = STAGE_ROWS * STAGE_COLS;
__device__ __forceinline__ float* staged(float* stage, int row, int col) {
  return stage + row * STAGE_COLS + (col ^ (row & 7) << 3);
}
// The fragments of an mma's 16 x 64 sums: sums[4 j ..] are columns 8 j + 2 (lane % 4) and + 1 of row lane / 4, then of that + 8.
template <class X>
__device__ __forceinline__ void stage_fragments(float* stage, const X* sums) {
  const int lane = threadIdx.x & 31, row = lane >> 2, col = (lane & 3) * 2;
#pragma unroll
  for (int j = 0; j < STAGE_COLS / 8; j++) {
    const f32x2 upper = {(float)sums[4 * j], (float)sums[4 * j + 1]};
    const f32x2 lower = {(float)sums[4 * j + 2], (float)sums[4 * j + 3]};
    *reinterpret_cast<f32x2*>(staged(stage, row, 8 * j + col)) = upper;
    *reinterpret_cast<f32x2*>(staged(stage, row + 8, 8 * j + col)) = lower;
  }
}
// Hands the staged sums to `end(row, col, four of them)`, rows and columns counted from (row0, col0).
template <class End>
__device__ __forceinline__ void finish_stage(float* stage, u32 row0, u32 col0, const End& end) {
  const u32 lane = threadIdx.x & 31;
  __syncwarp();
#pragma unroll(End::UNROLL)
  for (u32 i = 0; i < STAGE_ROWS / 2; i++) {
    const u32 row = 2 * i + lane / 16, col = lane % 16 * 4;
    end(row0 + row, col0 + col, load4(staged(stage, row, col)));
  }
  __syncwarp();
}

// Tile `t` of C in groups of 16 rows of tiles, so that blocks that run at one time share operands in L2.
struct TileAt {
  u32 row, col;
};
__device__ __forceinline__ TileAt tile_at(u32 t, u32 tiles_m, u32 tiles_n) {
  const u32 group = 16 * tiles_n, top = t / group * 16, high = min(tiles_m - top, 16u), inside = t % group;
  return {top + inside % high, inside / high};
}

// Loads, or zeros where a matrix has ended; `count` of the four exist. `whole`: rows are multiples of four.
template <class X>
__device__ __forceinline__ f32x4 load_some(const X* at, u32 count, bool whole) {
  if (whole) return load4(at);
  f32x4 x = {};
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    if (i < count) x.v[i] = to_f32(at[i]);
  }
  return x;
}
template <class X>
__device__ __forceinline__ void store_some(X* at, f32x4 x, u32 count, bool whole) {
  if (whole) return store4(at, x);
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    if (i < count) at[i] = from_f32<X>(x.v[i]);
  }
}

constexpr u32 FINISH_ACCUMULATE = 0x100, FINISH_HALF = 0x200;
// u = scale sums + bias, kept where asked; y = act(u) + weight residual; C = y, or C + y: as gemm/finish.rs has it. c, u and the
// residual are bf16 under FINISH_HALF, else f32. FORWARD: a product that may have a bias, an activation and u; without it the
// code of six activations is not there.
template <bool FORWARD>
struct Finish {
  static constexpr int UNROLL = 1;
  void* c;
  void* u;
  const float* bias;
  const void* residual;
  float scale, weight;
  u32 flags;  // the activation, FINISH_ACCUMULATE, FINISH_HALF
  u32 m, n;
  u64 base;  // elements before this product's first, of C, u and the residual

  __device__ __forceinline__ f32x4 load(const void* x, u64 at, u32 count, bool whole) const {
    if (flags & FINISH_HALF) return load_some((const bf16*)x + at, count, whole);
    return load_some((const float*)x + at, count, whole);
  }
  __device__ __forceinline__ void store(void* x, u64 at, f32x4 v, u32 count, bool whole) const {
    if (flags & FINISH_HALF) {
      store_some((bf16*)x + at, v, count, whole);
    } else {
      store_some((float*)x + at, v, count, whole);
    }
  }
  __device__ __forceinline__ void operator()(u32 row, u32 col, f32x4 v) const {
    if (row >= m || col >= n) return;
    const u64 at = base + (u64)row * n + col;
    const u32 count = n - col, activation = flags & 0xff;
    const bool whole = (n & 3) == 0;
    if (scale != 1.f) {
#pragma unroll
      for (int i = 0; i < 4; i++) v.v[i] = __fmul_rn(v.v[i], scale);
    }
    if constexpr (FORWARD) {
      if (bias) {
        const f32x4 b = load_some(bias + col, count, whole);
#pragma unroll
        for (int i = 0; i < 4; i++) v.v[i] = __fadd_rn(v.v[i], b.v[i]);
      }
      if (u) store(u, at, v, count, whole);
      if (activation != ACT_NONE) {
#pragma unroll
        for (int i = 0; i < 4; i++) v.v[i] = activate(activation, v.v[i]);
      }
    }
    if (residual) {
      const f32x4 r = load(residual, at, count, whole);
#pragma unroll
      for (int i = 0; i < 4; i++) v.v[i] = __fadd_rn(v.v[i], __fmul_rn(weight, r.v[i]));
    }
    if (flags & FINISH_ACCUMULATE) {
      const f32x4 before = load(c, at, count, whole);
#pragma unroll
      for (int i = 0; i < 4; i++) v.v[i] = __fadd_rn(before.v[i], v.v[i]);
    }
    store(c, at, v, count, whole);
  }
  // This epilogue for the `i`-th of several products, or of the parts of a sum that is split and finished later: their results
  // lie one after another.
  __device__ __forceinline__ Finish nth(u32 i) const {
    Finish f = *this;
    f.base = (u64)i * m * n;
    return f;
  }
};

// A product's last arguments in every entry, and the epilogue made of them.
#define FINISH_PARAMETERS                                                                                             \
  void *c, void *u, const float *__restrict__ bias, const void *__restrict__ residual, float scale, float weight,     \
      u32 flags
#define FINISH_OF(forward, m, n) \
  Finish<forward> { c, u, bias, residual, scale, weight, flags, m, n, 0 }

// AdamW on the weights whose gradient the sums are: the gradient is never in memory.
struct Descend {
  // Two rows of loads in flight: the state comes from memory.
  static constexpr int UNROLL = 2;
  float* param;
  float* first;
  float* second;
  float* ema;
  bf16* copy;
  AdamWRule rule;
  u32 m, n;

  __device__ __forceinline__ void operator()(u32 row, u32 col, f32x4 g) const {
    if (row >= m || col >= n) return;
    const u64 at = (u64)row * n + col;
    const u32 count = n - col;
    const bool whole = (n & 3) == 0;
    f32x4 p = load_some(param + at, count, whole), a = load_some(first + at, count, whole);
    f32x4 b = load_some(second + at, count, whole), e = {};
    if (ema) e = load_some(ema + at, count, whole);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      rule.step(g.v[i], p.v[i], a.v[i], b.v[i]);
      e.v[i] = rule.averaged(e.v[i], p.v[i]);
    }
    store_some(param + at, p, count, whole);
    store_some(first + at, a, count, whole);
    store_some(second + at, b, count, whole);
    if (ema) store_some(ema + at, e, count, whole);
    if (copy) store_some(copy + at, p, count, whole);
  }
  __device__ __forceinline__ Descend nth(u32) const { return *this; }
};
#define DESCEND_PARAMETERS                                                                                  \
  float *param, float *first, float *second, float *ema, bf16 *copy, const float *__restrict__ hyper,       \
      float beta_1, float beta_2, float eps, float weight_decay
#define DESCEND_OF(m, n) \
  Descend { param, first, second, ema, copy, AdamWRule(beta_1, beta_2, eps, weight_decay, hyper), m, n }
