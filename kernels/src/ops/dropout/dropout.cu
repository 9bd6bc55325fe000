// dropout: y = x keep / (1 - p), the word of an element being that of its row and column. One vector of 16 bytes a thread.
// Moves 2 elements for each of y; a Philox block of about 70 integer operations for four elements is half as long as that.
#include "draws.cuh"
#include "vec.cuh"

template <class X>
__device__ __forceinline__ void dropout(const X* x, X* y, u64 rows, u32 d, Mask mask) {
  each_in_rows<PIECE<X>>(rows, d, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    float v[N];
    load<N>(v, x + row * d + col);
    mask.apply(v, row, col);
    store<N>(y + row * d + col, v);
  });
}

extern "C" __global__ void dropout_f32(const float* x, const u32* rng, float* y, u64 rows, u32 d, u32 stream, u32 least,
                                       float scale) {
  dropout(x, y, rows, d, {rng, stream, least, scale});
}
extern "C" __global__ void dropout_bf16(const bf16* x, const u32* rng, bf16* y, u64 rows, u32 d, u32 stream, u32 least,
                                        float scale) {
  dropout(x, y, rows, d, {rng, stream, least, scale});
}
