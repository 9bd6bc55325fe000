// A kernel of every kind, for the interpreter's own tests.
#include "reduce.cuh"

// y = x / sum(x), a block of 256 threads for each row.
extern "C" __global__ void __launch_bounds__(256)
demo_normalize(const float* __restrict__ x, float* __restrict__ y, u32 cols) {
  STATIC_SHARED(float, scratch, 32);
  const float* row = x + (u64)blockIdx.x * cols;
  float sum = 0.f;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) sum += row[c];
  sum = block_sum(sum, scratch);
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) y[(u64)blockIdx.x * cols + c] = row[c] / sum;
}

// y = x / (1 + exp(-x)): an element to a thread.
extern "C" __global__ void __launch_bounds__(256) demo_silu(const float* __restrict__ x, float* __restrict__ y, u32 n) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] / (1.f + expf(-x[i]));
}
