// C = A B in f32 by fused multiply-adds, the sums of an element in the order of k.
//
// Layout: A is [m, k] or [k, m], B is [n, k] or [k, n]: nt, nn, tn. A stage is 16 of K: rows of K as [long, 16 + 4] floats
// (read as fours of K by rows 16 apart), rows of M or N as [16, long] (read as fours of the long side): no bank meets twice.
// Blocks: 128 x 128 or 64 x 64 by 256 threads of 8 x 8 or 4 x 4, three stages by cp.async, one barrier a stage. Grid x: tiles;
// grid y: parts of K (join.cu); grid z: several products. `any`: rows that are not whole 16-byte pieces, copied by fours of bytes.
// Cost: 2 m n k flops. Floor: flops / (128 lanes x processors x clock): 67 TFLOP/s on an H100. A step of four k is 256
// multiply-adds a thread for 16 loads of 16 bytes: predicted 80 % of the floor.
#include "ampere.cuh"
#include "finish.cuh"

constexpr int DEPTH = 16, STAGES = 3, THREADS = 256;

template <int LONG, bool ACROSS, bool ANY>
struct Tile {
  static constexpr int PITCH = ACROSS ? LONG : DEPTH + 4, FLOATS = ACROSS ? DEPTH * LONG : LONG * PITCH;
  static constexpr int WIDE = ACROSS ? LONG / 4 : DEPTH / 4;  // pieces of 16 bytes of a row
  static constexpr int PER = LONG / 16;                       // of the long side in a thread

  // A thread's first piece of the stage that is copied next, in memory [rows, cols].
  const float* from;
  u32 row, col, rows, cols;

  __device__ __forceinline__ Tile(const float* x, u32 long0, u32 k0, u32 longs, u32 ks)
      : row((ACROSS ? k0 : long0) + threadIdx.x / WIDE), col((ACROSS ? long0 : k0) + threadIdx.x % WIDE * 4),
        rows(ACROSS ? ks : longs), cols(ACROSS ? longs : ks) {
    from = x + (u64)row * cols + col;
  }
  __device__ __forceinline__ void load(float* tile) {
    constexpr int APART = THREADS / WIDE;
    float* to = tile + threadIdx.x / WIDE * PITCH + threadIdx.x % WIDE * 4;
#pragma unroll
    for (int i = 0; i < LONG * DEPTH / 4 / THREADS; i++) {
      const float* piece = from + (u64)i * APART * cols;
      if constexpr (ANY) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
          cp_async4(to + i * APART * PITCH + e, piece + e, row + i * APART < rows && col + e < cols);
        }
      } else {
        cp_async16(to + i * APART * PITCH, piece, row + i * APART < rows && col < cols);
      }
    }
    (ACROSS ? row : col) += DEPTH;
    from += ACROSS ? (u64)DEPTH * cols : DEPTH;
  }
  // Which of the long side thread `t` of 16 holds as its i-th.
  static __device__ __forceinline__ int index(int t, int i) {
    return ACROSS ? t * 4 + i / 4 * 64 + i % 4 : t + 16 * i;
  }
  // K of k of all that thread `t` holds.
  template <int K>
  static __device__ __forceinline__ void read(float (&x)[PER][K], const float* tile, int t, int k) {
    if constexpr (ACROSS) {
#pragma unroll
      for (int kk = 0; kk < K; kk++)
#pragma unroll
        for (int i = 0; i < PER; i += 4) {
          const f32x4 four = load4(tile + (k + kk) * PITCH + index(t, i));
#pragma unroll
          for (int e = 0; e < 4; e++) x[i + e][kk] = four.v[e];
        }
    } else {
#pragma unroll
      for (int i = 0; i < PER; i++) {
        const float* at = tile + index(t, i) * PITCH + k;
        if constexpr (K == 4) {
          const f32x4 four = load4(at);
#pragma unroll
          for (int kk = 0; kk < 4; kk++) x[i][kk] = four.v[kk];
        } else {
          const f32x2 two = *reinterpret_cast<const f32x2*>(at);
          x[i][0] = two.lo, x[i][1] = two.hi;
        }
      }
    }
  }
  // f(k, i, value) for the same, the values of four k of one i or of all i of one k at a time; k ascends for each i.
  template <int K, class F>
  static __device__ __forceinline__ void each(const float* tile, int t, int k, const F& f) {
#pragma unroll
    for (int o = 0; o < (ACROSS ? K : PER); o++) {
#pragma unroll
      for (int i = 0; i < (ACROSS ? PER : 4); i += 4) {
        const f32x4 four = load4(ACROSS ? tile + (k + o) * PITCH + index(t, i) : tile + index(t, o) * PITCH + k);
#pragma unroll
        for (int e = 0; e < 4; e++) f(ACROSS ? o : e, ACROSS ? i + e : o, four.v[e]);
      }
    }
  }
};

template <int SIDE, bool ACROSS_A, bool ACROSS_B, bool ANY, class End>
__device__ __forceinline__ void multiply(const float* a, const float* b, u32 k, const End& whole) {
  using A = Tile<SIDE, ACROSS_A, ANY>;
  using B = Tile<SIDE, ACROSS_B, ANY>;
  // How many k at once: fours of A beside a row of B would not fit the registers.
  constexpr int PER = SIDE / 16, K = ACROSS_B && !ACROSS_A ? 2 : 4;
  DYN_SHARED(float, ring);
  const u32 m = whole.m, n = whole.n, steps = (k + DEPTH - 1) / DEPTH;
  const u32 each = (steps + gridDim.y - 1) / gridDim.y, first = blockIdx.y * each, last = min(first + each, steps);
  // Products lie one after another.
  a += (u64)blockIdx.z * m * k, b += (u64)blockIdx.z * n * k;
  const TileAt tile = tile_at(blockIdx.x, (m + SIDE - 1) / SIDE, (n + SIDE - 1) / SIDE);
  const u32 row0 = tile.row * SIDE, col0 = tile.col * SIDE;
  const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;

  A left_side(a, row0, first * DEPTH, m, k);
  B right_side(b, col0, first * DEPTH, n, k);
  const auto load = [&](u32 step) {
    if (step < last) {
      float* at = ring + (step - first) % STAGES * (A::FLOATS + B::FLOATS);
      left_side.load(at);
      right_side.load(at + A::FLOATS);
    }
    cp_commit();
  };
  float sums[PER][PER] = {};
  for (int s = 0; s < STAGES - 1; s++) load(first + s);
  for (u32 step = first; step < last; step++) {
    cp_wait<STAGES - 2>();
    // This step's bytes are there for all, and all have read the stage that is filled next.
    __syncthreads();
    load(step + STAGES - 1);
    const float* at = ring + (step - first) % STAGES * (A::FLOATS + B::FLOATS);
    // Rolled: unrolled, the next fours would be fetched into registers that 8 x 8 sums have not left.
#pragma unroll 1
    for (int kk = 0; kk < DEPTH; kk += K) {
      float left[PER][K];
      A::read(left, at, ty, kk);
      B::template each<K>(at + A::FLOATS, tx, kk, [&](int e, int j, float right) {
#pragma unroll
        for (int i = 0; i < PER; i++) sums[i][j] = __fmaf_rn(left[i][e], right, sums[i][j]);
      });
    }
  }
  // The ring becomes the warps' stages: two rows of C at a time.
  cp_wait<0>();
  __syncthreads();
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  float* stage = ring + warp * 2 * SIDE;
  const End end = whole.nth(blockIdx.y + blockIdx.z);
#pragma unroll 1
  for (int i = 0; i < PER; i++) {
#pragma unroll
    for (int held = 0; held < PER; held++) {
      if (held != i) continue;
#pragma unroll
      for (int j = 0; j < PER; j++) stage[(lane >> 4) * SIDE + B::index(tx, j)] = sums[held][j];
    }
    __syncwarp();
#pragma unroll
    for (int piece = lane; piece < 2 * SIDE / 4; piece += 32) {
      const int row = piece / (SIDE / 4), col = piece % (SIDE / 4) * 4;
      end(row0 + A::index(2 * warp + row, i), col0 + col, load4(stage + row * SIDE + col));
    }
    __syncwarp();
  }
}

#define OPERANDS const float *__restrict__ a, const float *__restrict__ b, u32 m, u32 n, u32 k
#define PRODUCT(side, across_a, across_b, any) multiply<side, across_a, across_b, any>(a, b, k, FINISH_OF(!across_b, m, n))
#define STEP(side, any) multiply<side, true, true, any>(a, b, k, DESCEND_OF(m, n))

extern "C" __global__ void __launch_bounds__(256, 2)
    product_f32_nt_128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(128, false, false, false); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_f32_nn_128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(128, false, true, false); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_f32_tn_128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(128, true, true, false); }
extern "C" __global__ void __launch_bounds__(256, 3)
    product_f32_nt_64(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, false, false, false); }
extern "C" __global__ void __launch_bounds__(256, 3)
    product_f32_nn_64(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, false, true, false); }
extern "C" __global__ void __launch_bounds__(256, 3)
    product_f32_tn_64(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, true, true, false); }
extern "C" __global__ void __launch_bounds__(256, 3)
    product_f32_nt_any(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, false, false, true); }
extern "C" __global__ void __launch_bounds__(256, 3)
    product_f32_nn_any(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, false, true, true); }
extern "C" __global__ void __launch_bounds__(256, 3)
    product_f32_tn_any(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, true, true, true); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_f32_step_128(OPERANDS, DESCEND_PARAMETERS) { STEP(128, false); }
extern "C" __global__ void __launch_bounds__(256, 3)
    product_f32_step_64(OPERANDS, DESCEND_PARAMETERS) { STEP(64, false); }
extern "C" __global__ void __launch_bounds__(256, 3)
    product_f32_step_any(OPERANDS, DESCEND_PARAMETERS) { STEP(64, true); }
