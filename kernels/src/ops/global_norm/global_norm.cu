// global_norm: |g|_2, squares and sums in f64. Blocks of 256 threads go over g with loads of 16 bytes and leave a sum each; a
// last block adds those in order. Reads g once: 4 bytes an element, the floor.
#include "reduce.cuh"
#include "vec.cuh"

extern "C" __global__ void __launch_bounds__(256) squares(const float* g, double* partial, u64 n) {
  STATIC_SHARED(double, scratch, 32);
  const u64 step = 4ull * gridDim.x * blockDim.x;
  double sum = 0.;
#pragma unroll 4
  for (u64 i = 4 * grid_thread(); i < n; i += step) {
    float x[4] = {};
    if (i + 4 <= n) {
      load<4>(x, g + i);
    } else {
#pragma unroll
      for (int j = 0; j < 4; j++) x[j] = i + j < n ? g[i + j] : 0.f;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) sum += (double)x[j] * (double)x[j];
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256) root_of_sum(const double* partial, float* norm, u32 count) {
  STATIC_SHARED(double, scratch, 32);
  double sum = 0.;
  for (u32 i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *norm = (float)sqrt(sum);
}
