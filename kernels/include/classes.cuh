// What has become of a token: the class that weights and terms of bounds are read by.
#pragma once
#include "vec.cuh"

enum Class : u32 { CLASS_MASK = 0, CLASS_HIT = 1, CLASS_MISS = 2 };

// A mask id that no token has stands for none.
__device__ __forceinline__ u32 class_of(u32 mask, bool has_mask, u32 x_0, u32 x_t) {
  return has_mask && x_t == mask ? CLASS_MASK : x_t == x_0 ? CLASS_HIT : CLASS_MISS;
}

// The group of positions of token n, of texts of `len` in `groups` groups each.
__device__ __forceinline__ u64 group_of(u64 n, u32 len, u32 groups) {
  const u64 text = quotient(n, len), position = n - text * len;
  return text * groups + position * groups / len;
}
