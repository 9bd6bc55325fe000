// cross_entropy: a group of threads holds a row of logits in registers (a block of 512 threads 16384 of them; what is longer
// is read again, from L2) and takes its largest and its sum; nll is written, and a last block adds w nll in f64.
// Backward takes both again and writes dlogits. Reads 4 n v bytes; backward writes as many, the floor.
#include "logits.cuh"

template <int N>
__device__ __forceinline__ void forward(const float* logits, const u32* target, float* nll, u64 n, u32 v, u32 lanes,
                                        u32 forbid) {
  STATIC_SHARED(float, scratch, 32);
  const Group group(lanes);
  for (u64 at_row = group.first(); at_row < n; at_row += group.step()) {
    const u64 row = at_row + group.sub;
    Logits<N, 1> logit(group, logits + row * v, row < n ? v : 0);
    logit.out[0] = forbid;
    const float top = logit.max(scratch);
    const float total = logit.sum(scratch, [=](float x) { return expf(x - top); });
    if (group.lane == 0 && row < n) {
      const u32 id = target[row];
      nll[row] = id < v && id != forbid ? logf(total) + (top - logits[row * v + id]) : F32_INF;
    }
  }
}

template <int N>
__device__ __forceinline__ void backward(const float* logits, const u32* target, const float* w, const float* dloss,
                                         float* dlogits, u64 n, u32 v, u32 lanes, u32 forbid) {
  STATIC_SHARED(float, scratch, 32);
  const Group group(lanes);
  for (u64 at_row = group.first(); at_row < n; at_row += group.step()) {
    const u64 row = at_row + group.sub;
    Logits<N, 1> logit(group, logits + row * v, row < n ? v : 0);
    logit.out[0] = forbid;
    const float top = logit.max(scratch);
    const float total = logit.sum(scratch, [=](float x) { return expf(x - top); });
    const float weight = row < n ? w[row] : 0.f, scale = *dloss * weight, factor = scale / total;
    const u32 id = row < n ? target[row] : 0;
    logit.map(dlogits + row * v, [=](u32 column, float x) {
      if (weight == 0.f || column == forbid) return 0.f;
      const float p = expf(x - top) * factor;
      return column == id ? p - scale : p;
    });
  }
}

extern "C" __global__ void __launch_bounds__(512, 1) cross_entropy(const float* logits, const u32* target, float* nll, u64 n,
                                                                u32 v, u32 lanes, u32 forbid) {
  if (v % 4 == 0) {
    forward<4>(logits, target, nll, n, v, lanes, forbid);
  } else {
    forward<1>(logits, target, nll, n, v, lanes, forbid);
  }
}
extern "C" __global__ void __launch_bounds__(512, 1)
    cross_entropy_grad(const float* logits, const u32* target, const float* w, const float* dloss, float* dlogits, u64 n,
                       u32 v, u32 lanes, u32 forbid) {
  if (v % 4 == 0) {
    backward<4>(logits, target, w, dloss, dlogits, n, v, lanes, forbid);
  } else {
    backward<1>(logits, target, w, dloss, dlogits, n, v, lanes, forbid);
  }
}

// sum = sum_n w_n x_n in f64 over the rows whose weight is not zero. One block.
extern "C" __global__ void __launch_bounds__(1024) weighted_sum(const float* w, const float* x, float* sum, u64 n) {
  STATIC_SHARED(double, scratch, 32);
  double total = 0.;
#pragma unroll 4
  for (u64 i = threadIdx.x; i < n; i += blockDim.x) total += w[i] != 0.f ? (double)w[i] * (double)x[i] : 0.;
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) *sum = (float)total;
}
