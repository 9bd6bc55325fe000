// Attention of new positions by a cache that they extend. A block has one query of one head: its warps share the keys out, a lane
// has d / 32 columns, and every warp keeps a softmax of its own; the four are joined in their order. What is read is the cache,
// once for each query: 2 capacity kv_heads d elements a step, which is the floor of decoding.
#include "attention.cuh"

constexpr u32 WARPS = 4;
// Columns of a lane: heads of up to 256.
constexpr u32 COLUMNS = 8;

template <class X>
__device__ void append(const X* qkv, const u32* past, X* keys, X* values, Heads at, u32 capacity, u64 count) {
  const u64 e = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= count) return;
  const u32 kept = at.kv_heads * at.d, c = (u32)(e % kept);
  const u64 row = e / kept;
  const u32 b = (u32)(row / at.len), i = (u32)(row % at.len), to = *past + i;
  if (to >= capacity) return;
  const X* from = qkv + at.qkv_row(b, i);
  keys[((u64)b * capacity + to) * kept + c] = from[at.k(0) + c];
  values[((u64)b * capacity + to) * kept + c] = from[at.v(0) + c];
}

template <class X>
__device__ void attend(const X* qkv, const u32* past_at, const X* keys, const X* values, X* y, Heads at, u32 capacity, u32 kind,
                       u32 block) {
  STATIC_SHARED(float, tops, WARPS);
  STATIC_SHARED(float, sums, WARPS);
  STATIC_SHARED(float, mixed, WARPS * 32 * COLUMNS);
  const u32 warp = threadIdx.x / 32, lane = threadIdx.x & 31, d = at.d;
  const u32 h = blockIdx.x % at.heads, i = blockIdx.x / at.heads % at.len, b = blockIdx.x / at.heads / at.len;
  const u32 kv = h / at.group(), kept = at.kv_heads * d, past = *past_at;
  X* to = y + at.y_row(b, i) + at.q(h);
  if (past > capacity || at.len > capacity - past) {
    // No room was left: shown, not read.
    for (u32 c = threadIdx.x; c < d; c += 32 * WARPS) to[c] = from_f32<X>(__int_as_float(0x7fffffff));
    return;
  }
  const u32 len = past + at.len, position = past + i;
  u32 reach = len;
  if (kind == 1) reach = position + 1;
  if (kind == 2) reach = min((position / block + 1) * block, len);

  const X *q = qkv + at.qkv_row(b, i) + at.q(h), *k = keys + (u64)b * capacity * kept + kv * d;
  const X* v = values + (u64)b * capacity * kept + kv * d;
  const float scale = rsqrtf((float)d);
  float query[COLUMNS], sum[COLUMNS];
#pragma unroll
  for (u32 z = 0; z < COLUMNS; z++) {
    const u32 c = 32 * z + lane;
    query[z] = c < d ? scale * to_f32(q[c]) : 0.f;
    sum[z] = 0.f;
  }
  float top = -F32_INF, total = 0.f;
  for (u32 j = warp; j < reach; j += WARPS) {
    float s = 0.f;
#pragma unroll
    for (u32 z = 0; z < COLUMNS; z++)
      if (32 * z + lane < d) s += query[z] * to_f32(k[(u64)j * kept + 32 * z + lane]);
    s = warp_sum(s);
    const float most = fmaxf(top, s), shrink = exp_2(top - most), weight = exp_2(s - most);
    total = total * shrink + weight;
    top = most;
#pragma unroll
    for (u32 z = 0; z < COLUMNS; z++)
      if (32 * z + lane < d) sum[z] = sum[z] * shrink + weight * to_f32(v[(u64)j * kept + 32 * z + lane]);
  }
  if (lane == 0) tops[warp] = top, sums[warp] = total;
#pragma unroll
  for (u32 z = 0; z < COLUMNS; z++) mixed[(warp * COLUMNS + z) * 32 + lane] = sum[z];
  __syncthreads();
  float most = -F32_INF, all = 0.f;
  for (u32 w = 0; w < WARPS; w++) most = fmaxf(most, tops[w]);
  for (u32 w = 0; w < WARPS; w++) all += tops[w] == -F32_INF ? 0.f : sums[w] * exp_2(tops[w] - most);
  for (u32 c = threadIdx.x; c < d; c += 32 * WARPS) {
    float value = 0.f;
    for (u32 w = 0; w < WARPS; w++)
      value += tops[w] == -F32_INF ? 0.f : exp_2(tops[w] - most) * mixed[(w * COLUMNS + c / 32) * 32 + c % 32];
    to[c] = from_f32<X>(value / all);
  }
}

extern "C" __global__ void attention_append_f32(const float* qkv, const u32* past, float* keys, float* values, u32 len,
                                                u32 heads, u32 kv_heads, u32 d, u32 capacity, u64 count) {
  append<float>(qkv, past, keys, values, {heads, kv_heads, d, len}, capacity, count);
}
extern "C" __global__ void attention_append_bf16(const bf16* qkv, const u32* past, bf16* keys, bf16* values, u32 len,
                                                 u32 heads, u32 kv_heads, u32 d, u32 capacity, u64 count) {
  append<bf16>(qkv, past, keys, values, {heads, kv_heads, d, len}, capacity, count);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS)
attention_cached_f32(const float* qkv, const u32* past, const float* keys, const float* values, float* y, u32 len, u32 heads,
                     u32 kv_heads, u32 d, u32 capacity, u32 kind, u32 block) {
  attend<float>(qkv, past, keys, values, y, {heads, kv_heads, d, len}, capacity, kind, block);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS)
attention_cached_bf16(const bf16* qkv, const u32* past, const bf16* keys, const bf16* values, bf16* y, u32 len, u32 heads,
                      u32 kv_heads, u32 d, u32 capacity, u32 kind, u32 block) {
  attend<bf16>(qkv, past, keys, values, y, {heads, kv_heads, d, len}, capacity, kind, block);
}
