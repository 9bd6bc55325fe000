// corrupt_tokens: one thread a token, its draws the block (seed, stream, step, row, position): words 0 and 1 decide in f64,
// words 2 and 3 are the id, as on the CPU, so that ids are equal. Moves 8 bytes a token.
#include "draws.cuh"
#include "vec.cuh"

enum Limit : u32 { LIMIT_MASK = 0, LIMIT_UNIFORM = 1, LIMIT_HYBRID = 2 };

extern "C" __global__ void corrupt_tokens(const u32* x_0, const float* level, const u32* rng, u32* x_t, u64 n, u32 len,
                                          u32 groups, u32 limit, u32 ids, u32 mask, u32 stream) {
  const u64 i = grid_thread();
  if (i >= n) return;
  const u64 row = quotient(i, len), position = i - row * len;
  const u32x4 word = philox_block((u64)rng[1] << 32 | rng[0], stream, rng[2], (u32)row, (u32)position);
  const u32 numbers = limit == LIMIT_HYBRID ? 2 : 1;
  const float* mine = level + (row * groups + position * groups / len) * numbers;
  const double u = unit_f64(word.x, word.y), alpha_bar = mine[0];
  // The high half of a product is uniform below `ids`.
  const u32 uniform = (u32)(((u64)word.z * ids + ((u64)word.w * ids >> 32)) >> 32);
  u32 drawn = mask;
  if (limit == LIMIT_UNIFORM) drawn = uniform;
  if (limit == LIMIT_HYBRID && u >= alpha_bar + (double)mine[1]) drawn = uniform + (uniform >= mask ? 1 : 0);
  x_t[i] = u < alpha_bar ? x_0[i] : drawn;
}
