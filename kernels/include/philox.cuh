// The counter-based random numbers of galatea-random: the same words for the same key on every machine.
#pragma once
#include "base.cuh"

// Ten rounds of Philox 4x32 (Salmon, Moraes, Dror, Shaw 2011).
__device__ __forceinline__ u32x4 philox4x32_10(u32x4 counter, u32x2 key) {
  u32x4 c = counter;
#pragma unroll
  for (int i = 0; i < 10; i++) {
    const u64 low = (u64)0xD2511F53u * c.x, high = (u64)0xCD9E8D57u * c.z;
    c = {(u32)(high >> 32) ^ c.y ^ key.x, (u32)high, (u32)(low >> 32) ^ c.w ^ key.y, (u32)low};
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return c;
}
// The four words at (seed, stream, step, row, block): word i belongs to element 4 block + i of the row.
__device__ __forceinline__ u32x4 philox_block(u64 seed, u32 stream, u32 step, u32 row, u32 block) {
  return philox4x32_10({block, row, step, stream}, {(u32)seed, (u32)(seed >> 32)});
}
// A word as a number in the open interval (0, 1), exact: (top 23 bits + 1/2) / 2^23.
__device__ __forceinline__ float unit_f32(u32 word) { return ((float)(word >> 9) + 0.5f) * (1.f / 8388608.f); }
// Two independent standard normals from two words (Box-Muller).
__device__ __forceinline__ f32x2 normal_pair_f32(u32 a, u32 b) {
  const float radius = sqrtf(-2.f * logf(unit_f32(a)));
  float sine, cosine;
  sincosf(6.28318530717958647692f * unit_f32(b), &sine, &cosine);
  return {radius * cosine, radius * sine};
}
// Standard Gumbel noise of a word: -log(-log(u)).
__device__ __forceinline__ float gumbel_f32(u32 word) { return -logf(-logf(unit_f32(word))); }
