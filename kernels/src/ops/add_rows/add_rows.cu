// add_rows: y[b,l,:] = x[b,l,:] + r, one row of r for a position (from `past` on, if it is read) or for a text. One vector of
// 16 bytes a thread; r stays in cache, so that 2 elements move for each of y. Its gradient is a sum of rows (columns.cu).
#include "vec.cuh"

template <class X, class R>
__device__ __forceinline__ void add_rows(const X* x, const R* r, const u32* past, X* y, u64 rows, u32 d, u32 len,
                                         u32 period, u32 batch) {
  each_in_rows<PIECE<X>>(rows, d, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    const u64 text = quotient(row, len);
    const u32 position = (u32)(row - text * len) + (past ? *past : 0);
    const u64 shared = batch ? text : position % period;
    float v[N], w[N];
    load<N>(v, x + row * d + col);
    load<N>(w, r + shared * d + col);
#pragma unroll
    for (int i = 0; i < N; i++) v[i] += w[i];
    store<N>(y + row * d + col, v);
  });
}

extern "C" __global__ void add_rows_f32(const float* x, const float* r, const u32* past, float* y, u64 rows, u32 d,
                                        u32 len, u32 period, u32 batch) {
  add_rows(x, r, past, y, rows, d, len, period, batch);
}
extern "C" __global__ void add_rows_bf16(const bf16* x, const bf16* r, const u32* past, bf16* y, u64 rows, u32 d,
                                         u32 len, u32 period, u32 batch) {
  add_rows(x, r, past, y, rows, d, len, period, batch);
}
extern "C" __global__ void add_rows_bf16_f32(const bf16* x, const float* r, const u32* past, bf16* y, u64 rows, u32 d,
                                             u32 len, u32 period, u32 batch) {
  add_rows(x, r, past, y, rows, d, len, period, batch);
}
