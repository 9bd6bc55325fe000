// C = A B^T through cp.async, ldmatrix and mma.sync, for the interpreter's own tests. K a multiple of 8.
#include "ampere.cuh"

constexpr int BM = 64, BN = 64, BK = 32, STAGES = 3;

// Row r of a tile is 64 bytes in four chunks, permuted so that ldmatrix meets no bank twice.
__device__ __forceinline__ bf16* at(bf16* tile, int r, int chunk) { return tile + r * BK + ((chunk ^ (r >> 1 & 3)) * 8); }

enum Mistake { Correct, NoBarrier, ShortWait };

// Four warps of 32 x 32.
template <Mistake mistake>
__device__ __forceinline__ void multiply(const bf16* A, const bf16* B, float* C, int M, int N, int K) {
  DYN_SHARED(bf16, memory);
  bf16* As = memory;
  bf16* Bs = memory + STAGES * BM * BK;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, wm = (warp & 1) * 32, wn = (warp >> 1) * 32;
  const int m0 = blockIdx.y * BM, n0 = blockIdx.x * BN, steps = (K + BK - 1) / BK;
  const auto load = [&](int k) {
    if (k < steps) {
      for (int i = 0; i < 2; i++) {
        const int c = tid + i * 128, r = c / 4, ch = c % 4, col = k * BK + ch * 8;
        cp_async16(at(As + k % STAGES * BM * BK, r, ch), A + (u64)(m0 + r) * K + col, m0 + r < M && col < K);
        cp_async16(at(Bs + k % STAGES * BN * BK, r, ch), B + (u64)(n0 + r) * K + col, n0 + r < N && col < K);
      }
    }
    cp_commit();
  };
  float acc[2][4][4] = {};
  load(0);
  load(1);
  for (int k = 0; k < steps; k++) {
    if (mistake == ShortWait) {
      cp_wait<2>();
    } else {
      cp_wait<1>();
    }
    if (mistake != NoBarrier) __syncthreads();
    load(k + 2);
    bf16 *as = As + k % STAGES * BM * BK, *bs = Bs + k % STAGES * BN * BK;
    for (int kk = 0; kk < BK; kk += 16) {
      u32 a[2][4], b[2][4];
      for (int i = 0; i < 2; i++) ldmatrix_x4(a[i], at(as, wm + i * 16 + (lane & 15), kk / 8 + (lane >> 4)));
      for (int j = 0; j < 2; j++) {
        ldmatrix_x4(b[j], at(bs, wn + j * 16 + (lane & 7) + (lane >> 4 << 3), kk / 8 + (lane >> 3 & 1)));
      }
      for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 4; j++) mma_m16n8k16(acc[i][j], a[i], b[j >> 1][(j & 1) * 2], b[j >> 1][(j & 1) * 2 + 1]);
      }
    }
  }
  for (int i = 0; i < 2; i++) {
    for (int j = 0; j < 4; j++) {
      for (int e = 0; e < 4; e++) {
        const int row = m0 + wm + i * 16 + lane / 4 + 8 * (e >> 1), col = n0 + wn + j * 8 + (lane & 3) * 2 + (e & 1);
        if (row < M && col < N) C[(u64)row * N + col] = acc[i][j][e];
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(128)
demo_ampere(const bf16* a, const bf16* b, float* c, int m, int n, int k) {
  multiply<Correct>(a, b, c, m, n, k);
}
