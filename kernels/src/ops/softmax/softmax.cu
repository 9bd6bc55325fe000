// softmax: rows in registers of a group of threads: read once, written once; its gradient reads two tensors. Moves 8 bytes
// forward and 12 backward an element, the floor.
#include "logits.cuh"

template <int N>
__device__ __forceinline__ void forward(const float* x, float* p, u64 n, u32 v, u32 lanes) {
  STATIC_SHARED(float, scratch, 32);
  const Group group(lanes);
  for (u64 at_row = group.first(); at_row < n; at_row += group.step()) {
    const u64 row = at_row + group.sub;
    Logits<N, 1> logit(group, x + row * v, row < n ? v : 0);
    logit.out[0] = NO_COLUMN;
    const float top = logit.max(scratch);
    const float factor = 1.f / logit.sum(scratch, [=](float x) { return expf(x - top); });
    logit.map(p + row * v, [=](u32, float x) { return expf(x - top) * factor; });
  }
}

template <int N>
__device__ __forceinline__ void backward(const float* p, const float* dy, float* dx, u64 n, u32 v, u32 lanes) {
  constexpr int E = HELD<N>;
  STATIC_SHARED(float, scratch, 32);
  const Group group(lanes);
  for (u64 at_row = group.first(); at_row < n; at_row += group.step()) {
    const u64 row = at_row + group.sub;
    const u32 d = row < n ? v : 0;
    const Row<float, N, E> share(group, p + row * v, d), slope(group, dy + row * v, d);
    float mean = 0.f;
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float a[N], b[N];
      share.get(a, k, at);
      slope.get(b, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) mean += a[i] * b[i];
    });
    mean = group.sum(mean, scratch);
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float a[N], b[N];
      share.get(a, k, at);
      slope.get(b, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) a[i] *= b[i] - mean;
      store<N>(dx + row * v + at, a);
    });
  }
}

extern "C" __global__ void __launch_bounds__(512) softmax(const float* x, float* p, u64 n, u32 v, u32 lanes) {
  if (v % 4 == 0) {
    forward<4>(x, p, n, v, lanes);
  } else {
    forward<1>(x, p, n, v, lanes);
  }
}
extern "C" __global__ void __launch_bounds__(512)
    softmax_grad(const float* p, const float* dy, float* dx, u64 n, u32 v, u32 lanes) {
  if (v % 4 == 0) {
    backward<4>(p, dy, dx, n, v, lanes);
  } else {
    backward<1>(p, dy, dx, n, v, lanes);
  }
}
