// distances: y = -|x_n - w_v|, a block 64 x 64 of them, 4 x 4 a thread, 16 coordinates of both in shared memory at a time. Bound
// by arithmetic: 2 n v d operations of f32.
// Its gradient: a block 16 rows x 64 coordinates, over the other side's points 32 at a time: 3 n v d operations for each side,
// sums over points in order.
#include "vec.cuh"

constexpr u32 TILE = 64, DEPTH = 16, PAD = TILE + 1;

extern "C" __global__ void __launch_bounds__(256)
    distances(const float* x, const float* w, float* y, u64 n, u32 v, u32 d, u32 tiles) {
  STATIC_SHARED(float, xs, 16 * 65);
  STATIC_SHARED(float, ws, 16 * 65);
  const u64 row_0 = (u64)(blockIdx.x / tiles) * TILE, column_0 = (u64)(blockIdx.x % tiles) * TILE;
  const u32 tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  float square[4][4] = {};
  for (u32 k_0 = 0; k_0 < d; k_0 += DEPTH) {
    for (u32 i = threadIdx.x; i < TILE * DEPTH; i += blockDim.x) {
      const u32 k = i % DEPTH, at = i / DEPTH;
      const bool in = k_0 + k < d;
      xs[k * PAD + at] = in && row_0 + at < n ? x[(row_0 + at) * d + k_0 + k] : 0.f;
      ws[k * PAD + at] = in && column_0 + at < v ? w[(column_0 + at) * d + k_0 + k] : 0.f;
    }
    __syncthreads();
#pragma unroll
    for (u32 k = 0; k < DEPTH; k++) {
      float a[4], b[4];
#pragma unroll
      for (u32 i = 0; i < 4; i++) {
        a[i] = xs[k * PAD + ty + 16 * i];
        b[i] = ws[k * PAD + tx + 16 * i];
      }
#pragma unroll
      for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < 4; j++) square[i][j] += (a[i] - b[j]) * (a[i] - b[j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
      const u64 row = row_0 + ty + 16 * i, column = column_0 + tx + 16 * j;
      if (row < n && column < v) y[row * v + column] = -sqrtf(square[i][j]);
    }
  }
}

// out_i = sum_j c_ij (other_j - mine_i), c = -dy / y at i * of_mine + j * of_other, 0 at a distance of 0.
extern "C" __global__ void __launch_bounds__(256)
    distances_grad(const float* mine, const float* other, const float* y, const float* dy, float* out, u64 rows, u64 others,
                   u32 d, u64 of_mine, u64 of_other, u32 tiles) {
  STATIC_SHARED(float, cs, 32 * 17);
  STATIC_SHARED(float, points, 32 * 64);
  const u64 row_0 = (u64)(blockIdx.x / tiles) * 16;
  const u32 column_0 = blockIdx.x % tiles * 64, tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const u64 row = row_0 + ty;
  float sum[4] = {}, here[4] = {};
#pragma unroll
  for (u32 j = 0; j < 4; j++) {
    const u32 column = column_0 + tx + 16 * j;
    if (row < rows && column < d) here[j] = mine[row * d + column];
  }
  for (u64 first = 0; first < others; first += 32) {
    for (u32 i = threadIdx.x; i < 32 * 16; i += blockDim.x) {
      // Neighbouring threads read neighbouring scores.
      const u32 a = of_other == 1 ? i / 32 : i % 16, b = of_other == 1 ? i % 32 : i / 16;
      float c = 0.f;
      if (row_0 + a < rows && first + b < others) {
        const u64 at = (row_0 + a) * of_mine + (first + b) * of_other;
        c = y[at] == 0.f ? 0.f : -dy[at] / y[at];
      }
      cs[b * 17 + a] = c;
    }
    for (u32 i = threadIdx.x; i < 32 * 64; i += blockDim.x) {
      const u32 b = i / 64, column = column_0 + i % 64;
      points[i] = first + b < others && column < d ? other[(first + b) * d + column] : 0.f;
    }
    __syncthreads();
#pragma unroll 8
    for (u32 b = 0; b < 32; b++) {
      const float c = cs[b * 17 + ty];
#pragma unroll
      for (u32 j = 0; j < 4; j++) sum[j] += c * (points[b * 64 + tx + 16 * j] - here[j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (u32 j = 0; j < 4; j++) {
    const u32 column = column_0 + tx + 16 * j;
    if (row < rows && column < d) out[row * d + column] = sum[j];
  }
}
