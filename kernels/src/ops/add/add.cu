// add: y = a + b; accumulate: y += x. Flat, one vector of 16 bytes a thread.
// Moves 12 (f32) or 6 (bf16) bytes an element and does one addition: the floor is that of a copy of as many bytes.
#include "vec.cuh"

template <class X>
__device__ __forceinline__ void add(const X* a, const X* b, X* y, u64 n) {
  each<PIECE<X>>(n, [=](auto width, u64 i) {
    constexpr int N = decltype(width)::n;
    float x[N], z[N];
    load<N>(x, a + i);
    load<N>(z, b + i);
#pragma unroll
    for (int j = 0; j < N; j++) x[j] += z[j];
    store<N>(y + i, x);
  });
}

extern "C" __global__ void add_f32(const float* a, const float* b, float* y, u64 n) { add(a, b, y, n); }
extern "C" __global__ void add_bf16(const bf16* a, const bf16* b, bf16* y, u64 n) { add(a, b, y, n); }
extern "C" __global__ void accumulate_f32(const float* x, float* y, u64 n) { add(x, (const float*)y, y, n); }
