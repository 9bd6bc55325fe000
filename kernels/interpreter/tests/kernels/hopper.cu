// C = A B^T through the copy engine, barriers and products of warpgroups, for the interpreter's own tests.
#include "wgmma.cuh"

constexpr int BM = 128, BN = 128, BK = 64, STAGES = 3;

// A mistake that the kernel makes on purpose; the tests expect it to be noticed.
enum Mistake { Correct, WrongParity, EarlyRelease, FewerBytes, MoreBytes, NoFence, LateInit, NoWaitAtEnd, OneArrival };

// One producer warpgroup, two consumers of 64 rows each; the grid walks the tiles.
template <Mistake mistake, bool MnMajor>
__device__ __forceinline__ void multiply(const TensorMap& ma, const TensorMap& mb, float* C, int M, int N, int K) {
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
      mbar_init(&empty[s], mistake == OneArrival ? 2 : 8);
    }
    mbar_init_fence();
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
      mbar_wait(&full[s], phase);
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
demo_hopper(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c, int m, int n, int k) {
  multiply<Correct, false>(a, b, c, m, n, k);
}
extern "C" __global__ void __launch_bounds__(384, 1)
demo_hopper_mn(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c, int m, int n, int k) {
  multiply<Correct, true>(a, b, c, m, n, k);
}
