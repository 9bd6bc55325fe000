// cast: y = x in another type. Flat, eight elements a thread: 16-byte loads and stores of bf16, two of f32.
// Moves 6 bytes an element between the two types.
#include "vec.cuh"

template <class X, class Y>
__device__ __forceinline__ void cast(const X* x, Y* y, u64 n) {
  each<8>(n, [=](auto width, u64 i) {
    constexpr int N = decltype(width)::n;
    float v[N];
    load<N>(v, x + i);
    store<N>(y + i, v);
  });
}

extern "C" __global__ void cast_f32_f32(const float* x, float* y, u64 n) { cast(x, y, n); }
extern "C" __global__ void cast_f32_bf16(const float* x, bf16* y, u64 n) { cast(x, y, n); }
extern "C" __global__ void cast_bf16_f32(const bf16* x, float* y, u64 n) { cast(x, y, n); }
extern "C" __global__ void cast_bf16_bf16(const bf16* x, bf16* y, u64 n) { cast(x, y, n); }
