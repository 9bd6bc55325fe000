// C = A B^T through cp.async, ldmatrix and mma.sync, for the interpreter's own tests. K a multiple of 8.
#include "ampere.cuh"

constexpr int BM = 64, BN = 64, BK = 32, STAGES = 3;

// Row r of a tile is 64 bytes in four chunks, permuted so that ldmatrix meets no bank twice.
__device__ __forceinline__ bf16* at(bf16* tile, int r, int chunk) { return tile + r * BK + ((chunk ^ (r >> 1 & 3)) * 8); }

enum Mistake { Correct, NoBarrier, ShortWait, Misaligned, BeyondShared };

// Four warps of 32 x 32.
extern "C" __global__ void __launch_bounds__(128)
demo_ampere(const bf16* A, const bf16* B, float* C, int M, int N, int K, int mistake) {
  DYN_SHARED(bf16, memory);
  bf16* As = memory;
  bf16* Bs = memory + STAGES * BM * BK;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, wm = (warp & 1) * 32, wn = (warp >> 1) * 32;
  const int m0 = blockIdx.y * BM, n0 = blockIdx.x * BN, steps = (K + BK - 1) / BK;
  const auto load = [&](int k) {
    if (k < steps) {
      for (int i = 0; i < 2; i++) {
        const int c = tid + i * 128, r = c / 4, ch = c % 4, col = k * BK + ch * 8;
        bf16* to = at(As + k % STAGES * BM * BK, r, ch);
        if (mistake == Misaligned) to += 4;
        if (mistake == BeyondShared) to += STAGES * (BM + BN) * BK;
        cp_async16(to, A + (u64)(m0 + r) * K + col, m0 + r < M && col < K);
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

// d = a b^T in signed bytes: one warp, 16 x 8 over 32.
extern "C" __global__ void demo_s8(const u32* a, const u32* b, int* d) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const u32 x[4] = {a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + t + 4], a[(g + 8) * 8 + t + 4]};
  int sums[4] = {};
  mma_m16n8k32_s8(sums, x, b[g * 8 + t], b[g * 8 + t + 4]);
  for (int i = 0; i < 4; i++) d[(g + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)] = sums[i];
}

// The transpose of an 8 x 8 matrix in each of four corners, by ldmatrix.
extern "C" __global__ void demo_transpose(const bf16* x, u32* y) {
  STATIC_SHARED(bf16x8, rows, 32);
  const int lane = threadIdx.x;
  rows[lane] = reinterpret_cast<const bf16x8*>(x)[lane];
  __syncwarp();
  u32 r[4], two[2];
  ldmatrix_x4_trans(r, &rows[lane]);
  ldmatrix_x2_trans(two, &rows[lane]);
  for (int i = 0; i < 4; i++) y[i * 32 + lane] = i < 2 ? two[i] : r[i];
}
