// C = A B by warps (sm_80 and later): bf16 with f32 sums, or signed bytes with i32 sums.
//
// Layout: A is [m, k] (rows of K) or [k, m]; B is [n, k] or [k, n]: nt, nn, tn as in x w^T, dy w, dy^T x. A stage of the ring
// is 64 bytes of K of both: rows of K as rows of four 16-byte chunks, rows of M or N as 32 rows of K. Chunks are permuted so
// that ldmatrix meets no bank twice; a matrix that lies across K is read by ldmatrix.trans.
// Blocks: 128 x 128 by 8 warps, or 64 x 64 by 4, a warp 32 x 64 or 16 x 64; three or four stages by cp.async, one barrier a
// stage. Grid x: tiles, in groups of 16 rows of tiles whose operands share L2; grid y: parts of K, whose sums are joined
// afterwards (join.cu); grid z: several products. `any`: rows that are not whole 16-byte pieces, gathered element by element.
// Cost: 2 m n k flops; (m k ceil(n / 128) + n k ceil(m / 128)) 2 bytes through L2. Floor: flops / the rate of mma.sync, which
// is all of an A100's and some 62 % of an H100's (wgmma has the rest: product_hopper.cu).
#include "ampere.cuh"
#include "finish.cuh"

// The types that are multiplied: how many fit a chunk, and their mma of 32 bytes of K.
struct Halves {
  using Elem = bf16;
  using Sum = float;
  static __device__ __forceinline__ void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    mma_m16n8k16(d, a, b0, b1);
  }
};
struct Bytes {
  using Elem = i8;
  using Sum = int;
  static __device__ __forceinline__ void multiply(int (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    mma_m16n8k32_s8(d, a, b0, b1);
  }
};

// One operand's tile: LONG rows of M or N, 64 bytes of K. ACROSS: rows of K in memory.
template <class Elem, int LONG, bool ACROSS, int THREADS, bool ANY>
struct Tile {
  static constexpr int PER = 16 / sizeof(Elem);           // elements of a chunk
  static constexpr int DEPTH = 64 / sizeof(Elem);         // of K in a stage
  static constexpr int WIDE = ACROSS ? LONG / PER : 4;    // chunks of a row of the tile
  static constexpr int BYTES = LONG * 64;
  static_assert(!ACROSS || sizeof(Elem) == 2, "bytes cannot be transposed by ldmatrix");

  // Where chunk `c` of row `r` lies.
  static __device__ __forceinline__ unsigned char* at(unsigned char* tile, int r, int c) {
    return tile + (r * WIDE + (ACROSS ? c ^ (r & 7) : c ^ ((r >> 1) & 3))) * 16;
  }
  // A thread's first chunk of the stage that is copied next, in memory [rows, cols].
  const Elem* from;
  u32 row, col, rows, cols;

  __device__ __forceinline__ Tile(const Elem* x, u32 long0, u32 k0, u32 longs, u32 ks)
      : row((ACROSS ? k0 : long0) + threadIdx.x / WIDE), col((ACROSS ? long0 : k0) + threadIdx.x % WIDE * PER),
        rows(ACROSS ? ks : longs), cols(ACROSS ? longs : ks) {
    from = x + (u64)row * cols + col;
  }
  __device__ __forceinline__ void load(unsigned char* tile) {
    constexpr int APART = THREADS / WIDE;
#pragma unroll
    for (int i = 0; i < LONG * 4 / THREADS; i++) {
      unsigned char* to = at(tile, threadIdx.x / WIDE + i * APART, threadIdx.x % WIDE);
      const Elem* chunk = from + (u64)i * APART * cols;
      if constexpr (ANY) {
        alignas(16) Elem piece[PER] = {};
#pragma unroll
        for (int e = 0; e < PER; e++) {
          if (row + i * APART < rows && col + e < cols) piece[e] = chunk[e];
        }
        *reinterpret_cast<u32x4*>(to) = *reinterpret_cast<const u32x4*>(piece);
      } else {
        cp_async16(to, chunk, row + i * APART < rows && col < cols);
      }
    }
    (ACROSS ? row : col) += DEPTH;
    from += ACROSS ? (u64)DEPTH * cols : DEPTH;
  }
  // The A operand of an mma: rows row .. row + 16, bytes 32 half .. + 32 of K.
  static __device__ __forceinline__ void left(u32 (&a)[4], unsigned char* tile, int row, int half) {
    const int lane = threadIdx.x & 31;
    if constexpr (ACROSS) {
      ldmatrix_x4_trans(a, at(tile, half * 16 + (lane >> 4) * 8 + (lane & 7), row / 8 + ((lane >> 3) & 1)));
    } else {
      ldmatrix_x4(a, at(tile, row + (lane & 15), half * 2 + (lane >> 4)));
    }
  }
  // The B operands of two mma: columns col .. col + 8 in b[0], b[1], the next eight in b[2], b[3].
  static __device__ __forceinline__ void right(u32 (&b)[4], unsigned char* tile, int col, int half) {
    const int lane = threadIdx.x & 31;
    if constexpr (ACROSS) {
      ldmatrix_x4_trans(b, at(tile, half * 16 + ((lane >> 3) & 1) * 8 + (lane & 7), col / 8 + (lane >> 4)));
    } else {
      ldmatrix_x4(b, at(tile, col + (lane & 7) + ((lane >> 4) << 3), half * 2 + ((lane >> 3) & 1)));
    }
  }
};

// SIDE x SIDE tiles of C by warps of ROWS x 64.
template <class Kind, int SIDE, int ROWS, int STAGES, bool ACROSS_A, bool ACROSS_B, bool ANY, class End>
__device__ __forceinline__ void multiply(const typename Kind::Elem* a, const typename Kind::Elem* b, u32 k, const End& whole) {
  constexpr int WARPS = SIDE / ROWS * (SIDE / 64), THREADS = WARPS * 32, BLOCKS = ROWS / 16;
  using Elem = typename Kind::Elem;
  using A = Tile<Elem, SIDE, ACROSS_A, THREADS, ANY>;
  using B = Tile<Elem, SIDE, ACROSS_B, THREADS, ANY>;
  DYN_SHARED(unsigned char, ring);
  const u32 m = whole.m, n = whole.n, steps = (k + A::DEPTH - 1) / A::DEPTH;
  const u32 each = (steps + gridDim.y - 1) / gridDim.y, first = blockIdx.y * each;
  const u32 last = min(first + each, steps);

  // Products lie one after another.
  a += (u64)blockIdx.z * m * k, b += (u64)blockIdx.z * n * k;
  const TileAt tile = tile_at(blockIdx.x, (m + SIDE - 1) / SIDE, (n + SIDE - 1) / SIDE);
  const u32 row0 = tile.row * SIDE, col0 = tile.col * SIDE;
  const int warp = threadIdx.x >> 5, warp_row = warp % (SIDE / ROWS) * ROWS, warp_col = warp / (SIDE / ROWS) * 64;

  A left_side(a, row0, first * A::DEPTH, m, k);
  B right_side(b, col0, first * A::DEPTH, n, k);
  u32 filled = 0, used = 0;
  const auto load = [&](u32 step) {
    if (step < last) {
      unsigned char* at = ring + filled * (A::BYTES + B::BYTES);
      left_side.load(at);
      right_side.load(at + A::BYTES);
    }
    if (++filled == STAGES) filled = 0;
    cp_commit();
  };
  typename Kind::Sum sums[BLOCKS][8][4] = {};
  for (int s = 0; s < STAGES - 1; s++) load(first + s);
  for (u32 step = first; step < last; step++) {
    cp_wait<STAGES - 2>();
    // This step's bytes are there for all, and all have read the stage that is filled next.
    __syncthreads();
    load(step + STAGES - 1);
    unsigned char* at = ring + used * (A::BYTES + B::BYTES);
    if (++used == STAGES) used = 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      u32 left[BLOCKS][4];
#pragma unroll
      for (int i = 0; i < BLOCKS; i++) A::left(left[i], at, warp_row + i * 16, half);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        u32 right[4];
        B::right(right, at + A::BYTES, warp_col + j * 8, half);
#pragma unroll
        for (int i = 0; i < BLOCKS; i++) {
          Kind::multiply(sums[i][j], left[i], right[0], right[1]);
          Kind::multiply(sums[i][j + 1], left[i], right[2], right[3]);
        }
      }
    }
  }
  // The ring becomes the warps' stages.
  cp_wait<0>();
  __syncthreads();
  float* stage = reinterpret_cast<float*>(ring) + warp * STAGE_FLOATS;
  const End end = whole.nth(blockIdx.y + blockIdx.z);
#pragma unroll 1
  for (int i = 0; i < BLOCKS; i++) {
#pragma unroll
    for (int block = 0; block < BLOCKS; block++) {
      if (i == block) stage_fragments(stage, &sums[block][0][0]);
    }
    finish_stage(stage, row0 + warp_row + i * 16, col0 + warp_col, end);
  }
}

// A product of int8: sums scaled by row and column, then finished. `rows` holds pairs (scale, sum).
struct Scaled {
  static constexpr int UNROLL = 1;
  Finish<true> finish;
  const f32x2* rows;
  const float* scales;
  u32 m, n;

  __device__ __forceinline__ void operator()(u32 row, u32 col, f32x4 v) const {
    if (row >= m || col >= n) return;
    const float scale = rows[row].lo;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      if (col + i < n) v.v[i] = __fmul_rn(__fmul_rn(v.v[i], scales[col + i]), scale);
    }
    finish(row, col, v);
  }
  __device__ __forceinline__ Scaled nth(u32) const { return *this; }
};

#define OPERANDS const bf16 *__restrict__ a, const bf16 *__restrict__ b, u32 m, u32 n, u32 k
#define PRODUCT(side, rows, stages, across_a, across_b, any) \
  multiply<Halves, side, rows, stages, across_a, across_b, any>(a, b, k, FINISH_OF(!across_b, m, n))
#define STEP(side, rows, stages, any) \
  multiply<Halves, side, rows, stages, true, true, any>(a, b, k, DESCEND_OF(m, n))

extern "C" __global__ void __launch_bounds__(256, 2)
    product_bf16_nt_128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(128, 32, 3, false, false, false); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_bf16_nn_128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(128, 32, 3, false, true, false); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_bf16_tn_128(OPERANDS, FINISH_PARAMETERS) { PRODUCT(128, 32, 3, true, true, false); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_bf16_nt_64(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, 16, 4, false, false, false); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_bf16_nn_64(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, 16, 4, false, true, false); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_bf16_tn_64(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, 16, 4, true, true, false); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_bf16_nt_any(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, 16, 2, false, false, true); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_bf16_nn_any(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, 16, 2, false, true, true); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_bf16_tn_any(OPERANDS, FINISH_PARAMETERS) { PRODUCT(64, 16, 2, true, true, true); }
extern "C" __global__ void __launch_bounds__(256, 2)
    product_bf16_step_128(OPERANDS, DESCEND_PARAMETERS) { STEP(128, 32, 3, false); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_bf16_step_64(OPERANDS, DESCEND_PARAMETERS) { STEP(64, 16, 4, false); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_bf16_step_any(OPERANDS, DESCEND_PARAMETERS) { STEP(64, 16, 2, true); }

#define BYTE_OPERANDS                                                                                              \
  const i8 *__restrict__ a, const i8 *__restrict__ b, const f32x2 *__restrict__ rows, const float *__restrict__ scales, \
      u32 m, u32 n, u32 k
#define BYTE_PRODUCT(side, warp_rows, stages, any)                                    \
  multiply<Bytes, side, warp_rows, stages, false, false, any>(a, b, k, Scaled{FINISH_OF(true, m, n), rows, scales, m, n})
extern "C" __global__ void __launch_bounds__(256, 2)
    product_int8_nt_128(BYTE_OPERANDS, FINISH_PARAMETERS) { BYTE_PRODUCT(128, 32, 3, false); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_int8_nt_64(BYTE_OPERANDS, FINISH_PARAMETERS) { BYTE_PRODUCT(64, 16, 4, false); }
extern "C" __global__ void __launch_bounds__(128, 4)
    product_int8_nt_any(BYTE_OPERANDS, FINISH_PARAMETERS) { BYTE_PRODUCT(64, 16, 2, true); }
