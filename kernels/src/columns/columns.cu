// Sums of rows, column by column: y[s] = sum of the `count` rows x[s a], x[s a + b], .. in a fixed order.
// A lane holds a vector of 16 bytes, up to 16 warps share the rows of a block, and, where one block a column strip leaves the
// machine idle, several blocks share them and a second launch adds their sums. Every element is read once: 4 (f32) or 2 (bf16)
// bytes for each, the floor.
#include "columns.cuh"

// Where z is not null segment 1 goes there.
template <class X, class Y, int N>
__device__ __forceinline__ void sums(const X* x, Y* y, Y* z, u32 width, u64 a, u64 b, u64 count, u64 pitch, u32 tiles,
                                     u32 parts, u64 per) {
  DYN_SHARED(float, shared);
  const Share share(Width<N>{}, tiles, parts, per, count);
  float total[1][N] = {};
  if (share.col < width) {
    const X* from = x + share.segment * a + share.col;
#pragma unroll 4
    for (u64 i = share.first; i < share.end; i += blockDim.x >> 5) {
      float v[N];
      load<N>(v, from + i * b);
#pragma unroll
      for (int j = 0; j < N; j++) total[0][j] += v[j];
    }
  }
  across_warps(total, shared);
  if (share.col >= width || threadIdx.x >= 32) return;
  const u64 row = share.segment * parts + share.part;
  store<N>((z && row == 1 ? z : y + row * pitch) + share.col, total[0]);
}

template <class X, class Y>
__device__ __forceinline__ void sum_rows(const X* x, Y* y, Y* z, u32 width, u64 a, u64 b, u64 count, u64 pitch, u32 tiles,
                                         u32 parts, u64 per) {
  if ((width | a | b | pitch) % PIECE<X> == 0) {
    sums<X, Y, PIECE<X>>(x, y, z, width, a, b, count, pitch, tiles, parts, per);
  } else {
    sums<X, Y, 1>(x, y, z, width, a, b, count, pitch, tiles, parts, per);
  }
}

#define ROWS_OF(X, Y) \
  const X *x, Y *y, Y *z, u32 width, u64 a, u64 b, u64 count, u64 pitch, u32 tiles, u32 parts, u64 per
#define ROWS x, y, z, width, a, b, count, pitch, tiles, parts, per
extern "C" __global__ void __launch_bounds__(512) sum_rows_f32_f32(ROWS_OF(float, float)) { sum_rows(ROWS); }
extern "C" __global__ void __launch_bounds__(512) sum_rows_f32_bf16(ROWS_OF(float, bf16)) { sum_rows(ROWS); }
extern "C" __global__ void __launch_bounds__(512) sum_rows_bf16_f32(ROWS_OF(bf16, float)) { sum_rows(ROWS); }
extern "C" __global__ void __launch_bounds__(512) sum_rows_bf16_bf16(ROWS_OF(bf16, bf16)) { sum_rows(ROWS); }
