// squared_error: error_n = |prediction_n - target_n|^2, a group of threads a row; the weighted sum is cross_entropy.cu's. Reads
// 2 elements for each of d. Backward, one vector of 16 bytes a thread: 4 elements move, the floor.
#include "row.cuh"

template <class X, int N>
__device__ __forceinline__ void errors(const X* prediction, const X* target, float* error, u64 n, u32 d, u32 lanes) {
  STATIC_SHARED(float, scratch, 32);
  const Group group(lanes);
  for (u64 at_row = group.first(); at_row < n; at_row += group.step()) {
    const u64 row = at_row + group.sub;
    float sum = 0.f;
    pieces<N, HELD<N>>(group, row < n ? d : 0, [&](int, u32 at) {
      float p[N], t[N];
      load<N>(p, prediction + row * d + at);
      load<N>(t, target + row * d + at);
#pragma unroll
      for (int i = 0; i < N; i++) sum += (p[i] - t[i]) * (p[i] - t[i]);
    });
    sum = group.sum(sum, scratch);
    if (group.lane == 0 && row < n) error[row] = sum;
  }
}

template <class X>
__device__ __forceinline__ void errors(const X* prediction, const X* target, float* error, u64 n, u32 d, u32 lanes) {
  if (d % PIECE<X> == 0) {
    errors<X, PIECE<X>>(prediction, target, error, n, d, lanes);
  } else {
    errors<X, 1>(prediction, target, error, n, d, lanes);
  }
}

template <class X>
__device__ __forceinline__ void gradient(const X* prediction, const X* target, const float* w, const float* dloss,
                                         X* dprediction, X* dtarget, u64 n, u32 d) {
  each_in_rows<PIECE<X>>(n, d, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    const float weight = w[row], scale = 2.f * *dloss * weight;
    const u64 at = row * d + col;
    float p[N], t[N];
    load<N>(p, prediction + at);
    load<N>(t, target + at);
#pragma unroll
    for (int i = 0; i < N; i++) {
      p[i] = weight == 0.f ? 0.f : scale * (p[i] - t[i]);
      t[i] = -p[i];
    }
    store<N>(dprediction + at, p);
    store<N>(dtarget + at, t);
  });
}

extern "C" __global__ void __launch_bounds__(256)
    squared_error_f32(const float* prediction, const float* target, float* error, u64 n, u32 d, u32 lanes) {
  errors(prediction, target, error, n, d, lanes);
}
extern "C" __global__ void __launch_bounds__(256)
    squared_error_bf16(const bf16* prediction, const bf16* target, float* error, u64 n, u32 d, u32 lanes) {
  errors(prediction, target, error, n, d, lanes);
}
extern "C" __global__ void squared_error_grad_f32(const float* prediction, const float* target, const float* w,
                                                  const float* dloss, float* dprediction, float* dtarget, u64 n, u32 d) {
  gradient(prediction, target, w, dloss, dprediction, dtarget, n, d);
}
extern "C" __global__ void squared_error_grad_bf16(const bf16* prediction, const bf16* target, const float* w,
                                                   const float* dloss, bf16* dprediction, bf16* dtarget, u64 n, u32 d) {
  gradient(prediction, target, w, dloss, dprediction, dtarget, n, d);
}
