// C = A B^T through the copy engine, barriers and products of warpgroups, for the interpreter's own tests.
#include "wgmma.cuh"

constexpr int BM = 128, BN = 128, BK = 64, STAGES = 3;

// A mistake that the kernel makes on purpose; the tests expect it to be noticed.
enum Mistake {
  Correct,
  WrongParity,
  EarlyRelease,
  FewerBytes,
  MoreBytes,
  NoInitFence,
  LateInit,
  NoWaitAtEnd,
  OneArrival,
  TooManyArrivals,
  NoFullWait,
  HalfWarp,
};

// One producer warpgroup, two consumers of 64 rows each; the grid walks the tiles.
template <bool MnMajor>
__device__ __forceinline__ void multiply(const TensorMap& ma, const TensorMap& mb, float* C, int M, int N, int K,
                                         int mistake) {
  DYN_SHARED(unsigned char, memory);
  bf16* As = reinterpret_cast<bf16*>(memory);
  bf16* Bs = As + STAGES * BM * BK;
  u64* full = reinterpret_cast<u64*>(Bs + STAGES * BN * BK);
  u64* empty = full + STAGES;
  const int group = threadIdx.x / 128, tid = threadIdx.x % 128;
  const int tm = (M + BM - 1) / BM, tn = (N + BN - 1) / BN, steps = (K + BK - 1) / BK;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      mbar_init(&full[s], 1);
      mbar_init(&empty[s], mistake == OneArrival ? 2 : mistake == TooManyArrivals ? 7 : 8);
    }
    if (mistake != NoInitFence) mbar_init_fence();
  }
  if (mistake != LateInit) __syncthreads();
  if (group == 0) {
    regs_shrink<40>();
    if (tid != 0) return;
    int s = 0, phase = 0;
    for (int t = blockIdx.x; t < tm * tn; t += gridDim.x) {
      for (int k = 0; k < steps; k++) {
        mbar_wait(&empty[s], mistake == WrongParity ? phase : phase ^ 1);
        const u32 bytes = (BM + BN) * BK * 2;
        mbar_arrive_expect(&full[s], mistake == FewerBytes ? bytes / 2 : mistake == MoreBytes ? bytes * 2 : bytes);
        if (MnMajor) {
          for (int i = 0; i < 2; i++) {
            tma_load_3d(As + s * BM * BK + i * 64 * BK, &ma, &full[s], t / tn * BM + 64 * i, k * BK, 0);
            tma_load_3d(Bs + s * BN * BK + i * 64 * BK, &mb, &full[s], t % tn * BN + 64 * i, k * BK, 0);
          }
        } else {
          tma_load_3d(As + s * BM * BK, &ma, &full[s], k * BK, t / tn * BM, 0);
          tma_load_3d(Bs + s * BN * BK, &mb, &full[s], k * BK, t % tn * BN, 0);
        }
        if (++s == STAGES) s = 0, phase ^= 1;
      }
    }
    return;
  }
  regs_grow<232>();
  const int wg = group - 1, lane = tid & 31, warp = tid >> 5;
  const bool arrives = mistake == OneArrival ? tid == 0 : lane == 0;
  int s = 0, phase = 0;
  float d[BN / 2];
  for (int t = blockIdx.x; t < tm * tn; t += gridDim.x) {
    for (int k = 0; k < steps; k++) {
      if (mistake != NoFullWait) mbar_wait(&full[s], phase);
      if (mistake == HalfWarp && lane >= 16) return;
      const bf16* a = As + s * BM * BK + wg * 64 * BK;
      const bf16* b = Bs + s * BN * BK;
      wgmma_fence();
      for (int kk = 0; kk < BK / 16; kk++) {
        if (MnMajor) {
          wgmma<BN, 1, 1>(d, mn_major(a + kk * 16 * 64, 128 * BK), mn_major(b + kk * 16 * 64, 128 * BK), k + kk > 0);
        } else {
          wgmma<BN>(d, k_major(a + kk * 16), k_major(b + kk * 16), k + kk > 0);
        }
      }
      wgmma_commit();
      if (mistake == EarlyRelease) {
        if (arrives) mbar_arrive(&empty[s]);
        wgmma_wait<1>();
      } else {
        wgmma_wait<1>();
        if (k > 0 && arrives) mbar_arrive(&empty[s == 0 ? STAGES - 1 : s - 1]);
      }
      if (++s == STAGES) s = 0, phase ^= 1;
    }
    if (mistake != NoWaitAtEnd) wgmma_wait<0>();
    if (mistake != EarlyRelease && arrives) mbar_arrive(&empty[s == 0 ? STAGES - 1 : s - 1]);
    const int row = t / tn * BM + wg * 64 + warp * 16 + lane / 4;
    for (int i = 0; i < BN / 2; i++) {
      const int r = row + 8 * (i >> 1 & 1), c = t % tn * BN + (i >> 2) * 8 + 2 * (lane & 3) + (i & 1);
      if (r < M && c < N) C[(u64)r * N + c] = d[i];
    }
  }
}

extern "C" __global__ void __launch_bounds__(384, 1)
demo_hopper(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c, int m, int n, int k,
            int mistake) {
  multiply<false>(a, b, c, m, n, k, mistake);
}
extern "C" __global__ void __launch_bounds__(384, 1)
demo_hopper_mn(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c, int m, int n, int k,
               int mistake) {
  multiply<true>(a, b, c, m, n, k, mistake);
}

// The square of a tile of 64 x 64 by way of registers and back: ldmatrix, a product with A in registers, stmatrix, a store and
// an addition of the copy engine. A block of one warpgroup.
enum StoreMistake { StoreCorrect, NoFence, NoWaitRead, EarlyReuse };
extern "C" __global__ void __launch_bounds__(128)
demo_store(const __grid_constant__ TensorMap in, const __grid_constant__ TensorMap out,
           const __grid_constant__ TensorMap sum, int mistake) {
  DYN_SHARED(unsigned char, memory);
  bf16* tile = reinterpret_cast<bf16*>(memory);        // 64 rows of 128 bytes, swizzled
  bf16* square = tile + 64 * 64;                       // the same
  float* sums = reinterpret_cast<float*>(square + 64 * 64);  // 64 rows of 32 floats, swizzled: the left half
  u64* full = reinterpret_cast<u64*>(sums + 64 * 32);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (threadIdx.x == 0) {
    mbar_init(full, 1);
    mbar_init_fence();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mbar_arrive_expect(full, 64 * 64 * 2);
    tma_load_3d(tile, &in, full, 0, 0, 0);
  }
  mbar_wait(full, 0);
  const auto chunk = [](bf16* from, int row, int c) { return from + row * 64 + ((c ^ (row & 7)) * 8); };
  float d[32];
  wgmma_fence();
  for (int k = 0; k < 4; k++) {
    u32 a[4];
    ldmatrix_x4(a, chunk(tile, warp * 16 + (lane & 15), 2 * k + (lane >> 4)));
    wgmma<64, 1>(d, a, mn_major(tile + 16 * k * 64, 0), k > 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  for (int j = 0; j < 4; j++) {
    u32 r[4];
    for (int i = 0; i < 4; i++) r[i] = pack_bf16(d[8 * j + 2 * i], d[8 * j + 2 * i + 1]);
    // Matrices: rows 0-7 and 8-15 of columns 16 j.., then of 16 j + 8...
    stmatrix_x4(chunk(square, warp * 16 + (lane & 15), 2 * j + (lane >> 4)), r);
  }
  for (int i = 0; i < 32; i++) {
    const int row = warp * 16 + lane / 4 + 8 * (i >> 1 & 1), col = (i >> 2) * 8 + 2 * (lane & 3) + (i & 1);
    if (col < 32) sums[row * 32 + ((col / 4 ^ (row & 7)) * 4) + col % 4] = d[i];
  }
  if (mistake != NoFence) fence_async();
  __syncthreads();
  if (threadIdx.x == 0) {
    tma_store_3d(&out, square, 0, 0, 0);
    tma_add_3d(&sum, sums, 0, 0, 0);
    tma_commit();
    if (mistake != NoWaitRead) tma_wait_read<0>();
    if (mistake == NoWaitRead || mistake == EarlyReuse) square[0] = to_bf16(0.f);
  }
  if (mistake == EarlyReuse) square[64 + threadIdx.x * 8] = to_bf16(0.f);
}
