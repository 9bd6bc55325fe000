// activate: y = act(u); activate_grad: du = act'(u) dy. Flat, one vector of 16 bytes a thread.
// Moves 8 and 12 bytes an element in f32, half in bf16; an exponential and a quotient hide under that.
#include "activation.cuh"
#include "vec.cuh"

// f with the activation as a type, so that its code is compiled for one: the branch is the block's, not the element's.
template <class F>
__device__ __forceinline__ void with_activation(u32 activation, F f) {
  switch (activation) {
    case ACT_RELU: return f(Width<ACT_RELU>{});
    case ACT_SILU: return f(Width<ACT_SILU>{});
    case ACT_GELU: return f(Width<ACT_GELU>{});
    case ACT_GELU_ERF: return f(Width<ACT_GELU_ERF>{});
    case ACT_TANH: return f(Width<ACT_TANH>{});
    default: return f(Width<ACT_NONE>{});
  }
}

template <class X>
__device__ __forceinline__ void forward(const X* u, X* y, u64 n, u32 kind) {
  with_activation(kind, [=](auto activation) {
    each<PIECE<X>>(n, [=](auto width, u64 i) {
      constexpr int N = decltype(width)::n;
      float v[N];
      load<N>(v, u + i);
#pragma unroll
      for (int j = 0; j < N; j++) v[j] = activate(decltype(activation)::n, v[j]);
      store<N>(y + i, v);
    });
  });
}

template <class X>
__device__ __forceinline__ void backward(const X* u, const X* dy, X* du, u64 n, u32 kind) {
  with_activation(kind, [=](auto activation) {
    each<PIECE<X>>(n, [=](auto width, u64 i) {
      constexpr int N = decltype(width)::n;
      float v[N], d[N];
      load<N>(v, u + i);
      load<N>(d, dy + i);
#pragma unroll
      for (int j = 0; j < N; j++) d[j] *= activation_slope(decltype(activation)::n, v[j]);
      store<N>(du + i, d);
    });
  });
}

extern "C" __global__ void activate_f32(const float* u, float* y, u64 n, u32 kind) { forward(u, y, n, kind); }
extern "C" __global__ void activate_bf16(const bf16* u, bf16* y, u64 n, u32 kind) { forward(u, y, n, kind); }
extern "C" __global__ void activate_grad_f32(const float* u, const float* dy, float* du, u64 n, u32 kind) {
  backward(u, dy, du, n, kind);
}
extern "C" __global__ void activate_grad_bf16(const bf16* u, const bf16* dy, bf16* du, u64 n, u32 kind) {
  backward(u, dy, du, n, kind);
}
