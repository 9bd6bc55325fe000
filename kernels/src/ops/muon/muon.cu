// What Muon does beside its products: momentum, the scale of every matrix, and the step.
//
// Layout: n matrices of `len` elements one after another; grid y: matrices, grid x: chunks of one. Sums of squares are taken
// chunk by chunk in one launch and joined, in one order, by every block of the next. Bytes an element: 4 reads and writes of
// the first pass, 2 of the second, 3 of the last. Floor: bytes / the rate of a copy; products (product_f32.cu) are the work.
#include "adamw.cuh"
#include "reduce.cuh"

constexpr u32 THREADS = 256;

// momentum = mu momentum + clip g; x = clip g + mu momentum; squares [n, chunks] of x.
extern "C" __global__ void __launch_bounds__(256)
    muon_advance(const float* __restrict__ g, const float* __restrict__ norm, const float* __restrict__ hyper,
        float* momentum, float* __restrict__ x, float* __restrict__ squares, u64 len, u64 each, float mu) {
  STATIC_SHARED(float, scratch, 32);
  const float clip = clip_of(hyper[HYPER_MAX_NORM], norm[0]);
  const u64 first = blockIdx.x * each, last = min(first + each, len), base = blockIdx.y * len;
  float sum = 0.f;
  for (u64 i = first + threadIdx.x; i < last; i += THREADS) {
    const float step = clip * g[base + i], moved = mu * momentum[base + i] + step, u = step + mu * moved;
    momentum[base + i] = moved;
    x[base + i] = u;
    sum += u * u;
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) squares[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

// x = x / (|x| + tiny) for every matrix, |x|^2 from the `chunks` sums of the launch before.
extern "C" __global__ void __launch_bounds__(256)
    muon_scale(const float* __restrict__ squares, u32 chunks, float* x, u64 len, u64 each, float tiny) {
  STATIC_SHARED(float, scratch, 32);
  float sum = 0.f;
  for (u32 i = threadIdx.x; i < chunks; i += THREADS) sum += squares[blockIdx.y * chunks + i];
  const float inverse = 1.f / (sqrtf(block_sum(sum, scratch)) + tiny);
  const u64 first = blockIdx.x * each, last = min(first + each, len), base = blockIdx.y * len;
  for (u64 i = first + threadIdx.x; i < last; i += THREADS) x[base + i] *= inverse;
}

// param = param - lr (decay param + scale factor), all matrices at once.
extern "C" __global__ void __launch_bounds__(256)
    muon_apply(const float* __restrict__ factor, const float* __restrict__ hyper, float* param, u64 len,
        float decay, float scale) {
  const u64 i = (u64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= len) return;
  const float lr = hyper[HYPER_MUON_LR], p = param[i];
  param[i] = p - (lr * decay * p + lr * scale * factor[i]);
}
