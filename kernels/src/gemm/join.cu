// What stands beside a product: the sums of its parts, factors in another type, sums of columns.
//
// Layout: dense rows; a thread has four columns. Bytes: every element read once, every result written once; floor: bytes /
// the rate of a copy. Parts of a sum that was split along k are mostly in L2 when they are joined.
#include "finish.cuh"

// parts [splits, m, n], added in order, then finished.
extern "C" __global__ void __launch_bounds__(256)
    join_parts(const float* __restrict__ parts, u32 splits, u32 m, u32 n, FINISH_PARAMETERS) {
  const Finish<true> finish = FINISH_OF(true, m, n);
  const u32 fours = (n + 3) / 4;
  const u64 unit = (u64)blockIdx.x * 256 + threadIdx.x, row = unit / fours;
  if (row >= m) return;
  const u32 col = (u32)(unit % fours) * 4;
  const bool whole = (n & 3) == 0;
  f32x4 sum = {};
  for (u32 s = 0; s < splits; s++) {
    const f32x4 x = load_some(parts + ((u64)s * m + row) * n + col, n - col, whole);
#pragma unroll
    for (int i = 0; i < 4; i++) sum.v[i] = __fadd_rn(sum.v[i], x.v[i]);
  }
  finish((u32)row, col, sum);
}

// y [m, n] = silu(a) b for u = (a, b) + bias, u [m, 2 n] kept where asked: a and b f32, `pitch` apart from row to row.
extern "C" __global__ void __launch_bounds__(256)
    join_gated(const float* __restrict__ a, const float* __restrict__ b, u32 pitch, u32 m, u32 n, FINISH_PARAMETERS) {
  const Finish<true> finish = FINISH_OF(true, m, n);
  const u32 fours = (n + 3) / 4;
  const u64 unit = (u64)blockIdx.x * 256 + threadIdx.x, row = unit / fours;
  if (row >= m) return;
  const u32 col = (u32)(unit % fours) * 4, count = n - col;
  const bool whole = (n & 3) == 0;
  f32x4 x = load_some(a + row * pitch + col, count, whole), y = load_some(b + row * pitch + col, count, whole);
  if (bias) {
    const f32x4 p = load_some(bias + col, count, whole), q = load_some(bias + n + col, count, whole);
#pragma unroll
    for (int i = 0; i < 4; i++) x.v[i] = __fadd_rn(x.v[i], p.v[i]), y.v[i] = __fadd_rn(y.v[i], q.v[i]);
  }
  if (u) {
    finish.store(u, row * 2 * n + col, x, count, whole);
    finish.store(u, row * 2 * n + n + col, y, count, whole);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) y.v[i] *= x.v[i] * sigmoid(x.v[i]);
  finish.store(c, row * n + col, y, count, whole);
}

template <class X, class Y>
__device__ __forceinline__ void convert(const X* x, Y* y, u64 len) {
  const u64 at = ((u64)blockIdx.x * 256 + threadIdx.x) * 4;
  if (at >= len) return;
  const u32 count = (u32)min(len - at, (u64)4);
  store_some(y + at, load_some(x + at, count, count == 4), count, count == 4);
}
extern "C" __global__ void __launch_bounds__(256)
    factor_to_bf16(const float* __restrict__ x, bf16* __restrict__ y, u64 len) { convert(x, y, len); }
extern "C" __global__ void __launch_bounds__(256)
    factor_to_f32(const bf16* __restrict__ x, float* __restrict__ y, u64 len) { convert(x, y, len); }

// Row `blockIdx.y` of sums [chunks, n]: that of `each` rows of x [rows, n], 64 columns a block. Sixteen threads of a block
// share a column, each with every sixteenth row; their sums are added in order.
template <class X>
__device__ __forceinline__ void column_sums(const X* x, float* sums, u32 rows, u32 n, u32 each) {
  STATIC_SHARED(f32x4, held, 256);
  const u32 tx = threadIdx.x & 15, ty = threadIdx.x >> 4, col = blockIdx.x * 64 + tx * 4;
  const u32 first = blockIdx.y * each, last = min(first + each, rows);
  const bool whole = (n & 3) == 0;
  f32x4 sum = {};
  if (col < n) {
#pragma unroll 4
    for (u32 row = first + ty; row < last; row += 16) {
      const f32x4 v = load_some(x + (u64)row * n + col, n - col, whole);
#pragma unroll
      for (int i = 0; i < 4; i++) sum.v[i] += v.v[i];
    }
  }
  held[threadIdx.x] = sum;
  __syncthreads();
  if (ty == 0 && col < n) {
    for (int other = 1; other < 16; other++) {
      const f32x4 v = held[other * 16 + tx];
#pragma unroll
      for (int i = 0; i < 4; i++) sum.v[i] += v.v[i];
    }
    store_some(sums + (u64)blockIdx.y * n + col, sum, n - col, whole);
  }
}
extern "C" __global__ void __launch_bounds__(256)
    column_sums_f32(const float* __restrict__ x, float* __restrict__ sums, u32 rows, u32 n, u32 each) {
  column_sums(x, sums, rows, n, each);
}
extern "C" __global__ void __launch_bounds__(256)
    column_sums_bf16(const bf16* __restrict__ x, float* __restrict__ sums, u32 rows, u32 n, u32 each) {
  column_sums(x, sums, rows, n, each);
}
