// C = A B by warpgroups (sm_90a): bf16 with f32 sums.
//
// Layout: A is [m, k] or [k, m], B is [n, k] or [k, n]: nt, nn, tn. One thread of the first warpgroup feeds a ring of stages of
// 64 k through the copy engine; the other warpgroups multiply 64 rows each. Rows of K arrive as [long, 64] tiles, rows of M or
// N as panels of [64 of K, 64], both in the 128-byte permutation that wgmma reads; what lies outside a matrix arrives as zeros.
// Blocks are persistent: tiles in groups of 16 rows of tiles whose operands share L2, parts of K outermost (join.cu). A stage
// is released by every warp that has read it, not by its group, since a warp may still be waiting for the phase.
// Sums leave through each warp's own 4 KiB, so that the next tile's stages are already on their way.
// Tiles: 128 x 256 (4 stages, one block a processor), 128 x 128 (6), 64 x 128 (4, two blocks), 64 x 64 (4, two blocks).
// Cost: 2 m n k flops. Floor: flops / the tensor cores' rate (a step of 128 x 256 x 64 is 1024 cycles). Predicted at 4096^3:
// 64 steps of 1024 cycles a tile and some 4 % for its first stage and its epilogue, over 512 tiles on 132 processors (3.88
// waves in 4): 93 % of the rate at the clock that the board holds.
#include "finish.cuh"
#include "wgmma.cuh"

constexpr int DEPTH = 64, PANEL = 64 * DEPTH;

// One operand's tile of LONG x 64 bf16. ACROSS: rows of K in memory, panels of 64 columns.
template <int LONG, bool ACROSS>
struct Tile {
  static constexpr int ELEMS = LONG * DEPTH;

  static __device__ __forceinline__ void load(bf16* tile, const TensorMap* map, u64* bar, u32 long0, u32 k0) {
    if constexpr (ACROSS) {
#pragma unroll
      for (int p = 0; p < LONG / 64; p++) tma_load_3d(tile + p * PANEL, map, bar, (int)(long0 + 64 * p), (int)k0, 0);
    } else {
      tma_load_3d(tile, map, bar, (int)k0, (int)long0, 0);
    }
  }
  // The descriptor of 16 of K from `kk` on.
  static __device__ __forceinline__ u64 slice(const bf16* tile, int kk) {
    if constexpr (ACROSS) {
      return mn_major(tile + kk * 64, PANEL * 2);
    } else {
      return k_major(tile + kk);
    }
  }
};

template <int GROUPS, int COLS, int STAGES, bool ACROSS_A, bool ACROSS_B, class End>
__device__ __forceinline__ void multiply(const TensorMap* map_a, const TensorMap* map_b, u32 k, u32 splits, const End& whole) {
  constexpr int ROWS = 64 * GROUPS, STAGE = (ROWS + COLS) * DEPTH;
  using A = Tile<ROWS, ACROSS_A>;
  using B = Tile<COLS, ACROSS_B>;
  DYN_SHARED(unsigned char, memory);
  bf16* ring = reinterpret_cast<bf16*>(memory);
  float* stages = reinterpret_cast<float*>(memory + STAGES * STAGE * 2);
  u64* full = reinterpret_cast<u64*>(stages + 4 * GROUPS * STAGE_FLOATS);
  u64* empty = full + STAGES;
  const u32 m = whole.m, n = whole.n, steps = (k + DEPTH - 1) / DEPTH, each = (steps + splits - 1) / splits;
  const u32 tiles_m = (m + ROWS - 1) / ROWS, tiles_n = (n + COLS - 1) / COLS, tiles = tiles_m * tiles_n;

  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      mbar_init(&full[s], 1);
      mbar_init(&empty[s], 4 * GROUPS);
    }
    mbar_init_fence();
  }
  __syncthreads();

  int s = 0;
  u32 phase = 0;
  const auto next = [&] {
    if (++s == STAGES) s = 0, phase ^= 1;
  };
  if (threadIdx.x < 128) {
    if constexpr (GROUPS == 2) regs_shrink<40>();
    if (threadIdx.x != 0) return;
    tma_prefetch(map_a);
    tma_prefetch(map_b);
    for (u32 t = blockIdx.x; t < tiles * splits; t += gridDim.x) {
      const TileAt tile = tile_at(t % tiles, tiles_m, tiles_n);
      const u32 first = t / tiles * each, last = min(first + each, steps);
      for (u32 step = first; step < last; step++) {
        mbar_wait(&empty[s], phase ^ 1);
        mbar_arrive_expect(&full[s], STAGE * 2);
        bf16* at = ring + s * STAGE;
        A::load(at, map_a, &full[s], tile.row * ROWS, step * DEPTH);
        B::load(at + A::ELEMS, map_b, &full[s], tile.col * COLS, step * DEPTH);
        next();
      }
    }
  } else {
    if constexpr (GROUPS == 2) regs_grow<232>();
    const int group = threadIdx.x / 128 - 1, lane = threadIdx.x & 31, warp = threadIdx.x / 32 - 4;
    float* stage = stages + warp * STAGE_FLOATS;
    float sums[COLS / 2];
    for (u32 t = blockIdx.x; t < tiles * splits; t += gridDim.x) {
      const TileAt tile = tile_at(t % tiles, tiles_m, tiles_n);
      const u32 split = t / tiles, first = split * each, last = min(first + each, steps);
      int before = 0;
      for (u32 step = first; step < last; step++) {
        mbar_wait(&full[s], phase);
        const bf16* left = ring + s * STAGE + group * PANEL;
        const bf16* right = ring + s * STAGE + A::ELEMS;
        wgmma_fence();
#pragma unroll
        for (int kk = 0; kk < DEPTH; kk += 16) {
          wgmma<COLS, ACROSS_A, ACROSS_B>(sums, A::slice(left, kk), B::slice(right, kk), step > first || kk > 0);
        }
        wgmma_commit();
        // This step keeps running; the one before it is done, so its stage is free.
        wgmma_wait<1>();
        if (step > first && lane == 0) mbar_arrive(&empty[before]);
        before = s;
        next();
      }
      wgmma_wait<0>();
      if (lane == 0) mbar_arrive(&empty[before]);

      const End end = whole.nth(split);
      const u32 row0 = tile.row * ROWS + group * 64 + warp % 4 * 16, col0 = tile.col * COLS;
#pragma unroll 1
      for (int block = 0; block < COLS / 64; block++) {
#pragma unroll
        for (int held = 0; held < COLS / 64; held++) {
          if (held == block) stage_fragments(stage, sums + held * 32);
        }
        finish_stage(stage, row0, col0 + block * 64, end);
      }
    }
  }
}

#define OPERANDS const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, u32 m, u32 n, u32 k, u32 splits
#define PRODUCT(groups, cols, stages, across_a, across_b) \
  multiply<groups, cols, stages, across_a, across_b>(&a, &b, k, splits, FINISH_OF(!across_b, m, n))
#define STEP(groups, cols, stages) multiply<groups, cols, stages, true, true>(&a, &b, k, splits, DESCEND_OF(m, n))

extern "C" __global__ void __launch_bounds__(384, 1)
    product_hopper_nt_128x256(OPERANDS, FINISH_PARAMETERS) { PRODUCT(2, 256, 4, false, false); }
extern "C" __global__ void __launch_bounds__(384, 1)
    product_hopper_nn_128x256(OPERANDS, FINISH_PARAMETERS) { PRODUCT(2, 256, 4, false, true); }
extern "C" __global__ void __launch_bounds__(384, 1)
    product_hopper_tn_128x256(OPERANDS, FINISH_PARAMETERS) { PRODUCT(2, 256, 4, true, true); }
extern "C" __global__ void __launch_bounds__(384, 1)
    product_hopper_nt_128x128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(2, 128, 6, false, false); }
extern "C" __global__ void __launch_bounds__(384, 1)
    product_hopper_nn_128x128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(2, 128, 6, false, true); }
extern "C" __global__ void __launch_bounds__(384, 1)
    product_hopper_tn_128x128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(2, 128, 6, true, true); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_hopper_nt_64x128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(1, 128, 4, false, false); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_hopper_nn_64x128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(1, 128, 4, false, true); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_hopper_tn_64x128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(1, 128, 4, true, true); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_hopper_nt_64x64(OPERANDS, FINISH_PARAMETERS) { PRODUCT(1, 64, 4, false, false); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_hopper_nn_64x64(OPERANDS, FINISH_PARAMETERS) { PRODUCT(1, 64, 4, false, true); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_hopper_tn_64x64(OPERANDS, FINISH_PARAMETERS) { PRODUCT(1, 64, 4, true, true); }
extern "C" __global__ void __launch_bounds__(384, 1)
    product_hopper_step_128x128(OPERANDS, DESCEND_PARAMETERS) { STEP(2, 128, 6); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_hopper_step_64x64(OPERANDS, DESCEND_PARAMETERS) { STEP(1, 64, 4); }
