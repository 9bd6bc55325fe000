// swiglu: y = silu(a) b for rows u = (a, b) of 2 f; its gradient. One vector of 16 bytes of a and of b a thread.
// Moves 3 elements forward and 5 backward for each of y.
#include "activation.cuh"
#include "vec.cuh"

template <class X>
__device__ __forceinline__ void forward(const X* u, X* y, u64 rows, u32 f) {
  each_in_rows<PIECE<X>>(rows, f, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    float a[N], b[N];
    const X* at = u + row * 2 * f + col;
    load<N>(a, at);
    load<N>(b, at + f);
#pragma unroll
    for (int i = 0; i < N; i++) a[i] = a[i] * sigmoid(a[i]) * b[i];
    store<N>(y + row * f + col, a);
  });
}

template <class X>
__device__ __forceinline__ void backward(const X* u, const X* dy, X* du, u64 rows, u32 f) {
  each_in_rows<PIECE<X>>(rows, f, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    float a[N], b[N], d[N];
    const u64 at = row * 2 * f + col;
    load<N>(a, u + at);
    load<N>(b, u + at + f);
    load<N>(d, dy + row * f + col);
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float u = a[i];
      a[i] = d[i] * u * sigmoid(u);
      b[i] = d[i] * b[i] * activation_slope(ACT_SILU, u);
    }
    store<N>(du + at, b);
    store<N>(du + at + f, a);
  });
}

extern "C" __global__ void swiglu_f32(const float* u, float* y, u64 rows, u32 f) { forward(u, y, rows, f); }
extern "C" __global__ void swiglu_bf16(const bf16* u, bf16* y, u64 rows, u32 f) { forward(u, y, rows, f); }
extern "C" __global__ void swiglu_grad_f32(const float* u, const float* dy, float* du, u64 rows, u32 f) {
  backward(u, dy, du, rows, f);
}
extern "C" __global__ void swiglu_grad_bf16(const bf16* u, const bf16* dy, bf16* du, u64 rows, u32 f) {
  backward(u, dy, du, rows, f);
}
