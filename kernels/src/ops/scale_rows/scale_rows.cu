// scale_rows: y = m[b, chunk] x, one vector of 16 bytes a thread: 8 bytes move an element. Its gradient: a block a text, sums
// in f64; 8 bytes an element.
#include "reduce.cuh"
#include "vec.cuh"

extern "C" __global__ void scale_rows(const float* x, const float* m, float* y, u64 batch, u32 width, u32 chunks, u32 chunk) {
  each_in_rows<4>(batch, width, [=](auto piece, u64 b, u32 col) {
    constexpr int N = decltype(piece)::n;
    const float factor = m[b * chunks + chunk];
    float v[N];
    load<N>(v, x + b * width + col);
#pragma unroll
    for (int i = 0; i < N; i++) v[i] *= factor;
    store<N>(y + b * width + col, v);
  });
}

template <int N>
__device__ __forceinline__ double dot(const float* x, const float* dy, u32 width) {
  double sum = 0.;
#pragma unroll 4
  for (u32 i = threadIdx.x * N; i < width; i += blockDim.x * N) {
    float v[N], g[N];
    load<N>(v, x + i);
    load<N>(g, dy + i);
#pragma unroll
    for (int j = 0; j < N; j++) sum += (double)v[j] * (double)g[j];
  }
  return sum;
}

extern "C" __global__ void __launch_bounds__(512)
    scale_rows_grad(const float* x, const float* dy, float* dm, u32 width, u32 chunks, u32 chunk) {
  STATIC_SHARED(double, scratch, 32);
  const u64 b = blockIdx.x;
  const float *from = x + b * width, *slope = dy + b * width;
  const double sum = block_sum(width % 4 == 0 ? dot<4>(from, slope, width) : dot<1>(from, slope, width), scratch);
  for (u32 i = threadIdx.x; i < chunks; i += blockDim.x) dm[b * chunks + i] = i == chunk ? (float)sum : 0.f;
}
