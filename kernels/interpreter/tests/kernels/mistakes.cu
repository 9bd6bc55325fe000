// Mistakes of every kind, one to a kernel or to a value of `mistake`; zero is the correct kernel.
#include "philox.cuh"
#include "reduce.cuh"

// y = softmax of a row of at most 256 columns, a block of 256 threads.
enum SoftmaxMistake { SoftmaxCorrect, NoFirstBarrier, NoSecondBarrier, NoThirdBarrier };
extern "C" __global__ void __launch_bounds__(256) bad_softmax(const float* x, float* y, u32 cols, int mistake) {
  STATIC_SHARED(float, scratch, 8);
  const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const float mine = threadIdx.x < cols ? x[(u64)blockIdx.x * cols + threadIdx.x] : -F32_INF;
  float most = warp_max(mine);
  if (lane == 0) scratch[warp] = most;
  if (mistake != NoFirstBarrier) __syncthreads();
  most = warp_max(lane < 8 ? scratch[lane] : -F32_INF);
  if (mistake != NoSecondBarrier) __syncthreads();
  const float e = expf(mine - most);
  float sum = warp_sum(e);
  if (lane == 0) scratch[warp] = sum;
  if (mistake != NoThirdBarrier) __syncthreads();
  sum = warp_sum(lane < 8 ? scratch[lane] : 0.f);
  if (threadIdx.x < cols) y[(u64)blockIdx.x * cols + threadIdx.x] = e / sum;
}

// Neighbours in a warp exchange through shared memory.
extern "C" __global__ void bad_exchange(float* y, int mistake) {
  STATIC_SHARED(float, seats, 64);
  seats[threadIdx.x] = (float)threadIdx.x;
  if (mistake != 1) __syncwarp();
  if (mistake == 2) __syncwarp(threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u);
  y[threadIdx.x] = seats[threadIdx.x ^ (mistake == 3 ? 32 : 1)];
}

enum MeetingMistake {
  MeetingCorrect,
  TwoPlaces,
  NotAllArrive,
  MissingLane,
  OwnLaneLeftOut,
  WrongCount,
  OddCount,
  TwoCounts,
  BarrierTooHigh,
  DifferentOperations,
};
extern "C" __global__ void bad_meeting(u32* y, int mistake) {
  const u32 lane = threadIdx.x & 31;
  if (mistake == TwoPlaces) {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  }
  if (mistake == NotAllArrive && threadIdx.x < 32) bar_sync(1, 64);
  if (mistake == WrongCount) bar_sync(2, 96);
  if (mistake == OddCount) bar_sync(2, 33);
  if (mistake == TwoCounts) bar_sync(2, threadIdx.x < 32 ? 64 : 96);
  if (mistake == BarrierTooHigh) bar_sync(16, 64);
  if (mistake == DifferentOperations) {
    if (lane < 16) {
      __syncwarp();
    } else {
      y[0] = __ballot_sync(FULL_WARP, 1);
    }
  }
  u32 seen = lane;
  if (mistake == MissingLane) {
    if (lane < 8) seen = __shfl_sync(0xffu, lane, 9);
  } else if (mistake == OwnLaneLeftOut) {
    seen = __shfl_sync(0x7fffffffu, lane, 0);
  } else {
    seen = __shfl_sync(FULL_WARP, lane, 31 - (int)lane);
  }
  // Two halves hand over through a pair of barriers, as warps that are specialised do.
  STATIC_SHARED(u32, box, 32);
  if (threadIdx.x < 32) {
    box[lane] = seen;
    bar_arrive(3, 64);
    bar_sync(4, 64);
  } else {
    bar_sync(3, 64);
    y[lane] = box[lane];
    box[lane] = 0;
    bar_arrive(4, 64);
  }
}

enum AccessMistake { AccessCorrect, BeyondShared, BeyondLocal, MisalignedVector, DivisionByZero };
extern "C" __global__ void bad_access(float* y, u32 n, int mistake) {
  DYN_SHARED(float, x);
  float local[4];
  for (u32 i = 0; i < n; i++) local[mistake == BeyondLocal ? i + 1 : i] = (float)i;
  x[threadIdx.x] = local[threadIdx.x % 4];
  if (mistake == BeyondShared) x[threadIdx.x + 16] = 1.f;
  __syncthreads();
  y[threadIdx.x] = load4(x + (mistake == MisalignedVector ? 1 : 0)).v[threadIdx.x % 4];
  if (mistake == DivisionByZero) y[0] = (float)(n / (threadIdx.x / n));
}

// Counts words below a limit, in shared memory and by the last block that finishes.
extern "C" __global__ void bad_count(const u32* words, u32 n, u32 limit, u32* parts, u32* finished, u32* total, int mistake) {
  STATIC_SHARED(u32, count, 2);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n && words[i] < limit) {
    if (mistake == 1) {
      count[0] += 1;
    } else {
      atomicAdd(&count[0], 1u);
    }
  }
  if (mistake != 2) __syncthreads();
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = count[0];
    __threadfence();
    count[1] = atomicInc(finished, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (count[1] == 0) return;
  u32 sum = 0;
  for (u32 b = threadIdx.x; b < gridDim.x; b += blockDim.x) sum += parts[b];
  sum = __reduce_add_sync(FULL_WARP, sum);
  if (threadIdx.x == 0) *total = sum;
}

// What the headers compute: words, uniforms, normals, conversions, byte products, votes, shuffles.
extern "C" __global__ void demo_words(u64 seed, u32 stream, u32 step, u32* words, float* uniform, float* normal, bf16* rounded) {
  const u32 row = blockIdx.x * blockDim.x + threadIdx.x;
  const u32x4 w = philox_block(seed, stream, step, row, 3);
  words[4 * row] = w.x, words[4 * row + 1] = w.y, words[4 * row + 2] = w.z, words[4 * row + 3] = w.w;
  uniform[row] = unit_f32(w.x);
  const f32x2 z = normal_pair_f32(w.x, w.y);
  normal[2 * row] = z.lo, normal[2 * row + 1] = z.hi;
  rounded[row] = to_bf16(z.lo);
}
extern "C" __global__ void demo_lanes(u32* y) {
  const u32 lane = threadIdx.x;
  u32* mine = y + lane * 8;
  mine[0] = __shfl_up_sync(FULL_WARP, lane, 3, 8);
  mine[1] = __shfl_down_sync(FULL_WARP, lane, 3, 16);
  mine[2] = __shfl_xor_sync(FULL_WARP, lane, 5);
  mine[3] = __ballot_sync(FULL_WARP, lane % 3 == 0);
  mine[4] = (u32)__reduce_min_sync(FULL_WARP, 5 - (int)lane);
  mine[5] = (u32)__dp4a((int)0x01ff7f80u, (int)(lane * 0x01010101u), -7);
  mine[6] = (u32)(__any_sync(FULL_WARP, lane == 9) * 2 + __all_sync(FULL_WARP, lane < 32));
  mine[7] = __reduce_xor_sync(FULL_WARP, lane * lane);
}

// Reads or writes one element beyond n.
extern "C" __global__ void bad_bounds(const float* x, float* y, u32 n, int mistake) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float beyond = mistake == 1 ? x[i + 1] : x[i];
  y[mistake == 2 ? i + 1 : mistake == 3 ? i / 64 : i] = beyond;
}

// Waits for a word that no thread writes.
extern "C" __global__ void bad_spin(const volatile u32* word) {
  while (*word == 0) {
  }
}
