// token_weight: the weight of a token by its class and its group of positions, one thread a token. Moves 12 bytes a token.
#include "classes.cuh"

extern "C" __global__ void token_weight(const u32* x_0, const u32* x_t, const float* weight, float* w, u64 n, u32 len,
                                        u32 groups, u32 mask, u32 has_mask) {
  const u64 i = grid_thread();
  if (i < n) w[i] = weight[3 * group_of(i, len, groups) + class_of(mask, has_mask != 0, x_0[i], x_t[i])];
}
