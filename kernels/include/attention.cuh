// Which keys a query sees, and which weights dropout keeps: what all attention kernels share.
#pragma once
#include "philox.cuh"
#include "reduce.cuh"

// Pairs of positions (AttentionMask).
struct Pairs {
  u32 kind, block, len;

  __device__ __forceinline__ bool sees(u32 i, u32 j) const {
    switch (kind) {
      case 0: return true;
      case 1: return j <= i;
      case 2: return j / block <= i / block;
      default: {
        const u32 half = len / 2;
        const bool noisy_i = i < half, noisy_j = j < half;
        const u32 a = (noisy_i ? i : i - half) / block, b = (noisy_j ? j : j - half) / block;
        return noisy_j ? noisy_i && a == b : noisy_i ? a > b : a >= b;
      }
    }
  }
  // Whether a query of i..=i_last may see a key of j..=j_last: what a block of threads asks before it loads a tile.
  __device__ __forceinline__ bool meet(u32 i, u32 i_last, u32 j, u32 j_last) const {
    switch (kind) {
      case 0: return true;
      case 1: return j <= i_last;
      case 2: return j / block <= i_last / block;
      default: {
        const u32 half = len / 2;
        // The block that a noisy query shares with noisy keys.
        if (i < half && j < half && i / block <= min(j_last, half - 1) / block &&
            j / block <= min(i_last, half - 1) / block)
          return true;
        if (j_last < half) return false;
        const u32 first = (j < half ? 0 : j - half) / block;  // of clean keys
        if (i < half && first < min(i_last, half - 1) / block) return true;
        return i_last >= half && first <= (i_last - half) / block;
      }
    }
  }
};

// Dropout of weights: that of query i and key j in head `row` of the batch stays where its half of a word is large enough.
struct Kept {
  const u32* rng;
  u32 stream, least;
  float scale;

  // The words of keys j..j + 8, j a multiple of 8.
  __device__ __forceinline__ u32x4 words(u32 row, u32 i, u32 j) const {
    return philox4x32_10({(i << 16) + j / 8, row, rng[2], stream}, {rng[0], rng[1]});
  }
  // What the weight of key j is multiplied by, given its words.
  __device__ __forceinline__ float factor(const u32x4& w, u32 j) const {
    const u32 word = (j & 4) ? ((j & 2) ? w.w : w.z) : ((j & 2) ? w.y : w.x);
    return ((word >> (16 * (j & 1))) & 0xffffu) >= least ? scale : 0.f;
  }
  __device__ __forceinline__ float of(u32 row, u32 i, u32 j) const {
    return rng ? factor(words(row, i, j & ~7u), j) : 1.f;
  }
};

// The columns of qkv [b, len, width] and of y, for a query head and its key/value head.
struct Heads {
  u32 heads, kv_heads, d, len;

  __device__ __forceinline__ u64 width() const { return (u64)(heads + 2 * kv_heads) * d; }
  __device__ __forceinline__ u32 group() const { return heads / kv_heads; }
  __device__ __forceinline__ u64 q(u32 h) const { return (u64)h * d; }
  __device__ __forceinline__ u64 k(u32 kv) const { return (u64)(heads + kv) * d; }
  __device__ __forceinline__ u64 v(u32 kv) const { return (u64)(heads + kv_heads + kv) * d; }
  __device__ __forceinline__ u64 qkv_row(u32 b, u32 i) const { return ((u64)b * len + i) * width(); }
  __device__ __forceinline__ u64 y_row(u32 b, u32 i) const { return ((u64)b * len + i) * heads * d; }
  // Where the log-sum of a query stands.
  __device__ __forceinline__ u64 lse(u32 b, u32 h, u32 i) const { return ((u64)b * heads + h) * len + i; }
};

// e^x by the machine's power of two, whose error is two units in the last place.
__device__ __forceinline__ float exp_2(float x) { return exp2f(x * 1.44269504088896340736f); }
