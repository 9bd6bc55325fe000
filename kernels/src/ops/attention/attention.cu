// Attention for any width of a head, in f32 arithmetic: what f32 programs and unusual widths use. Tiles of 32 queries by 32
// keys in shared memory, 128 threads a block; nothing of [len, len] leaves it. bf16 with common widths: attention_bf16.cu.
//
// Forward: 4 b l^2 d flops on FFMA units, 16 b l d bytes (f32). A thread holds 2 x 4 scores, so that 6 words are read for 8
// multiply-adds; mixtures are kept in shared memory, 4 rows to a value that is read.
// Backward: queries by one kernel, keys and values by another, so that every sum has one owner and a fixed order: 14 instead
// of 10 b l^2 d flops.
#include "attention.cuh"

constexpr u32 T = 32;
constexpr u32 THREADS = 128;
constexpr u32 PITCH = T + 1;

// Rows first.. of a matrix into a tile [T, d + 1] of floats, times `scale`; zeros beyond the last row.
template <class X>
__device__ __forceinline__ void tile(float* to, const X* from, u64 stride, u32 first, u32 len, u32 d, float scale) {
  for (u32 e = threadIdx.x; e < T * d; e += THREADS) {
    const u32 r = e / d, c = e - r * d;
    to[r * (d + 1) + c] = first + r < len ? scale * to_f32(from[(u64)(first + r) * stride + c]) : 0.f;
  }
}

// The 2 x 4 products of this thread of rows of a and of b.
__device__ __forceinline__ void products(float (&s)[2][4], const float* a, const float* b, u32 d) {
  const u32 i = threadIdx.x / 8 * 2, j = threadIdx.x % 8 * 4;
#pragma unroll
  for (int x = 0; x < 2; x++)
#pragma unroll
    for (int y = 0; y < 4; y++) s[x][y] = 0.f;
  for (u32 c = 0; c < d; c++) {
    float left[2], right[4];
#pragma unroll
    for (int x = 0; x < 2; x++) left[x] = a[(i + x) * (d + 1) + c];
#pragma unroll
    for (int y = 0; y < 4; y++) right[y] = b[(j + y) * (d + 1) + c];
#pragma unroll
    for (int x = 0; x < 2; x++)
#pragma unroll
      for (int y = 0; y < 4; y++) s[x][y] += left[x] * right[y];
  }
}

// sums[r][c] = keep(r) sums[r][c] + sum over n of w(r, n) x[n][c], 4 rows a thread.
template <class Keep, class Weight>
__device__ __forceinline__ void mix(float* sums, const float* x, u32 d, Keep keep, Weight w) {
  for (u32 e = threadIdx.x; e < T / 4 * d; e += THREADS) {
    const u32 r = e / d * 4, c = e % d;
    float sum[4];
#pragma unroll
    for (int y = 0; y < 4; y++) sum[y] = keep(r + y) * sums[(r + y) * (d + 1) + c];
    for (u32 n = 0; n < T; n++) {
      const float value = x[n * (d + 1) + c];
#pragma unroll
      for (int y = 0; y < 4; y++) sum[y] += w(r + y, n) * value;
    }
#pragma unroll
    for (int y = 0; y < 4; y++) sums[(r + y) * (d + 1) + c] = sum[y];
  }
}

__device__ __forceinline__ void clear(float* x, u32 count) {
  for (u32 e = threadIdx.x; e < count; e += THREADS) x[e] = 0.f;
}

// A block of queries of one head.
template <class X>
__device__ void forward(const X* qkv, const u32* visible, X* y, float* lse, Heads at, Pairs pairs, Kept kept) {
  DYN_SHARED(float, shared);
  const u32 d = at.d, len = at.len, size = T * (d + 1);
  float *q = shared, *k = q + size, *v = k + size, *o = v + size, *p = o + size, *keep = p + T * PITCH;
  const u32 tiles = (len + T - 1) / T, first = blockIdx.x % tiles * T;
  const u32 h = blockIdx.x / tiles % at.heads, b = blockIdx.x / tiles / at.heads, kv = h / at.group();
  const X* text = qkv + at.qkv_row(b, 0);
  tile(q, text + at.q(h), at.width(), first, len, d, rsqrtf((float)d));
  clear(o, size);

  // Four threads share a query in the softmax, eight keys each.
  const u32 r = threadIdx.x / 4, part = threadIdx.x % 4 * 8, i = first + r;
  float top = -F32_INF, sum = 0.f;
  for (u32 j0 = 0; j0 < len; j0 += T) {
    if (!pairs.meet(first, min(first + T, len) - 1, j0, min(j0 + T, len) - 1)) continue;
    __syncthreads();
    tile(k, text + at.k(kv), at.width(), j0, len, d, 1.f);
    tile(v, text + at.v(kv), at.width(), j0, len, d, 1.f);
    __syncthreads();
    float s[2][4];
    products(s, q, k, d);
#pragma unroll
    for (int x = 0; x < 2; x++)
#pragma unroll
      for (int z = 0; z < 4; z++) p[(threadIdx.x / 8 * 2 + x) * PITCH + threadIdx.x % 8 * 4 + z] = s[x][z];
    __syncthreads();
    float most = top;
    float score[8];
#pragma unroll
    for (int z = 0; z < 8; z++) {
      const u32 j = j0 + part + z;
      const bool seen = j < len && i < len && pairs.sees(i, j) && (!visible || visible[(u64)b * len + j]);
      score[z] = seen ? p[r * PITCH + part + z] : -F32_INF;
      most = fmaxf(most, score[z]);
    }
    most = fmaxf(most, __shfl_xor_sync(FULL_WARP, most, 1));
    most = fmaxf(most, __shfl_xor_sync(FULL_WARP, most, 2));
    const float scale = most == -F32_INF ? 1.f : exp_2(top - most);
    u32x4 words = {0, 0, 0, 0};
    if (kept.rng) words = kept.words(b * at.heads + h, i, j0 + part);
    float added = 0.f;
#pragma unroll
    for (int z = 0; z < 8; z++) {
      const float weight = score[z] == -F32_INF ? 0.f : exp_2(score[z] - most);
      added += weight;
      p[r * PITCH + part + z] = kept.rng ? weight * kept.factor(words, part + z) : weight;
    }
    added += __shfl_xor_sync(FULL_WARP, added, 1);
    added += __shfl_xor_sync(FULL_WARP, added, 2);
    sum = sum * scale + added;
    top = most;
    if (part == 0) keep[r] = scale;
    __syncthreads();
    mix(o, v, d, [=](u32 n) { return keep[n]; }, [=](u32 n, u32 j) { return p[n * PITCH + j]; });
  }
  __syncthreads();
  if (part == 0) {
    keep[r] = sum > 0.f ? 1.f / sum : 0.f;
    if (i < len) lse[at.lse(b, h, i)] = top + logf(sum);
  }
  __syncthreads();
  for (u32 e = threadIdx.x; e < T * d; e += THREADS) {
    const u32 n = e / d, c = e - n * d;
    if (first + n < len) y[at.y_row(b, first + n) + at.q(h) + c] = from_f32<X>(o[n * (d + 1) + c] * keep[n]);
  }
}

// delta = dy . y of every query: a warp each.
template <class X>
__device__ void dots(const X* y, const X* dy, float* delta, Heads at, u64 count) {
  const u64 n = (u64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (n >= count) return;
  const u32 h = (u32)(n % at.heads), i = (u32)(n / at.heads % at.len), b = (u32)(n / at.heads / at.len);
  const u64 from = at.y_row(b, i) + at.q(h);
  float sum = 0.f;
  for (u32 c = threadIdx.x & 31; c < at.d; c += 32) sum += to_f32(y[from + c]) * to_f32(dy[from + c]);
  sum = warp_sum(sum);
  if ((threadIdx.x & 31) == 0) delta[at.lse(b, h, i)] = sum;
}

// What a thread needs of a tile of pairs: (weight, gradient of the score) of its 2 x 4 pairs, to p and ds [query, key].
__device__ __forceinline__ void differentiate(float* p, float* ds, const float* q, const float* k, const float* v,
                                              const float* dy, const float* lse, const float* delta, const u32* visible,
                                              Heads at, Pairs pairs, Kept kept, u32 b, u32 h, u32 i0, u32 j0) {
  float s[2][4], dp[2][4];
  products(s, q, k, at.d);
  products(dp, dy, v, at.d);
  const u32 r = threadIdx.x / 8 * 2, c = threadIdx.x % 8 * 4;
#pragma unroll
  for (int x = 0; x < 2; x++) {
    const u32 i = i0 + r + x;
    u32x4 words = {0, 0, 0, 0};
    if (kept.rng) words = kept.words(b * at.heads + h, i, (j0 + c) & ~7u);
#pragma unroll
    for (int z = 0; z < 4; z++) {
      const u32 j = j0 + c + z;
      const bool seen =
          i < at.len && j < at.len && pairs.sees(i, j) && (!visible || visible[(u64)b * at.len + j]);
      const float weight = seen ? exp_2(s[x][z] - lse[r + x]) : 0.f;
      const float factor = kept.rng ? kept.factor(words, c + z) : 1.f;
      p[(r + x) * PITCH + c + z] = weight * factor;
      ds[(r + x) * PITCH + c + z] = weight * (factor * dp[x][z] - delta[r + x]);
    }
  }
}

// The numbers of a block of queries.
__device__ __forceinline__ void numbers(float* to, const float* from, u64 at, u32 first, u32 len) {
  if (threadIdx.x < T) to[threadIdx.x] = first + threadIdx.x < len ? from[at + first + threadIdx.x] : 0.f;
}

// The gradients of a block of queries of one head.
template <class X>
__device__ void backward_q(const X* qkv, const u32* visible, const float* lse, const X* dy, const float* delta, X* dqkv,
                           Heads at, Pairs pairs, Kept kept) {
  DYN_SHARED(float, shared);
  const u32 d = at.d, len = at.len, size = T * (d + 1);
  float *q = shared, *k = q + size, *v = k + size, *g = v + size, *dq = g + size;
  float *p = dq + size, *ds = p + T * PITCH, *sums = ds + T * PITCH, *deltas = sums + T;
  const u32 tiles = (len + T - 1) / T, first = blockIdx.x % tiles * T;
  const u32 h = blockIdx.x / tiles % at.heads, b = blockIdx.x / tiles / at.heads, kv = h / at.group();
  const X* text = qkv + at.qkv_row(b, 0);
  const float scale = rsqrtf((float)d);
  tile(q, text + at.q(h), at.width(), first, len, d, scale);
  tile(g, dy + at.y_row(b, 0) + at.q(h), (u64)at.heads * d, first, len, d, 1.f);
  numbers(sums, lse, at.lse(b, h, 0), first, len);
  numbers(deltas, delta, at.lse(b, h, 0), first, len);
  clear(dq, size);
  for (u32 j0 = 0; j0 < len; j0 += T) {
    if (!pairs.meet(first, min(first + T, len) - 1, j0, min(j0 + T, len) - 1)) continue;
    __syncthreads();
    tile(k, text + at.k(kv), at.width(), j0, len, d, 1.f);
    tile(v, text + at.v(kv), at.width(), j0, len, d, 1.f);
    __syncthreads();
    differentiate(p, ds, q, k, v, g, sums, deltas, visible, at, pairs, kept, b, h, first, j0);
    __syncthreads();
    mix(dq, k, d, [](u32) { return 1.f; }, [=](u32 i, u32 j) { return ds[i * PITCH + j]; });
  }
  __syncthreads();
  for (u32 e = threadIdx.x; e < T * d; e += THREADS) {
    const u32 n = e / d, c = e - n * d;
    if (first + n < len) dqkv[at.qkv_row(b, first + n) + at.q(h) + c] = from_f32<X>(dq[n * (d + 1) + c] * scale);
  }
}

// The gradients of a block of keys and of their values.
template <class X>
__device__ void backward_kv(const X* qkv, const u32* visible, const float* lse, const X* dy, const float* delta, X* dqkv,
                            Heads at, Pairs pairs, Kept kept) {
  DYN_SHARED(float, shared);
  const u32 d = at.d, len = at.len, size = T * (d + 1);
  float *q = shared, *k = q + size, *v = k + size, *g = v + size, *dk = g + size, *dv = dk + size;
  float *p = dv + size, *ds = p + T * PITCH, *sums = ds + T * PITCH, *deltas = sums + T;
  const u32 tiles = (len + T - 1) / T, first = blockIdx.x % tiles * T;
  const u32 kv = blockIdx.x / tiles % at.kv_heads, b = blockIdx.x / tiles / at.kv_heads;
  const X* text = qkv + at.qkv_row(b, 0);
  const float scale = rsqrtf((float)d);
  tile(k, text + at.k(kv), at.width(), first, len, d, 1.f);
  tile(v, text + at.v(kv), at.width(), first, len, d, 1.f);
  clear(dk, 2 * size);
  for (u32 h = kv * at.group(); h < (kv + 1) * at.group(); h++) {
    for (u32 i0 = 0; i0 < len; i0 += T) {
      if (!pairs.meet(i0, min(i0 + T, len) - 1, first, min(first + T, len) - 1)) continue;
      __syncthreads();
      tile(q, text + at.q(h), at.width(), i0, len, d, scale);
      tile(g, dy + at.y_row(b, 0) + at.q(h), (u64)at.heads * d, i0, len, d, 1.f);
      numbers(sums, lse, at.lse(b, h, 0), i0, len);
      numbers(deltas, delta, at.lse(b, h, 0), i0, len);
      __syncthreads();
      differentiate(p, ds, q, k, v, g, sums, deltas, visible, at, pairs, kept, b, h, i0, first);
      __syncthreads();
      mix(dv, g, d, [](u32) { return 1.f; }, [=](u32 j, u32 i) { return p[i * PITCH + j]; });
      mix(dk, q, d, [](u32) { return 1.f; }, [=](u32 j, u32 i) { return ds[i * PITCH + j]; });
    }
  }
  __syncthreads();
  for (u32 e = threadIdx.x; e < T * d; e += THREADS) {
    const u32 n = e / d, c = e - n * d;
    if (first + n >= len) continue;
    X* row = dqkv + at.qkv_row(b, first + n);
    row[at.k(kv) + c] = from_f32<X>(dk[n * (d + 1) + c]);
    row[at.v(kv) + c] = from_f32<X>(dv[n * (d + 1) + c]);
  }
}

#define SIZES u32 len, u32 heads, u32 kv_heads, u32 d, u32 kind, u32 block, const u32 *rng, u32 stream, u32 least, float scale
#define VALUES {heads, kv_heads, d, len}, {kind, block, len}, {rng, stream, least, scale}

extern "C" __global__ void __launch_bounds__(THREADS)
attention_f32(const float* qkv, const u32* visible, float* y, float* lse, SIZES) {
  forward<float>(qkv, visible, y, lse, VALUES);
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_dots_f32(const float* y, const float* dy, float* delta, u32 len, u32 heads, u32 d, u64 count) {
  dots<float>(y, dy, delta, {heads, heads, d, len}, count);
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_q_f32(const float* qkv, const u32* visible, const float* lse, const float* dy, const float* delta, float* dqkv, SIZES) {
  backward_q<float>(qkv, visible, lse, dy, delta, dqkv, VALUES);
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_kv_f32(const float* qkv, const u32* visible, const float* lse, const float* dy, const float* delta, float* dqkv, SIZES) {
  backward_kv<float>(qkv, visible, lse, dy, delta, dqkv, VALUES);
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_bf16(const bf16* qkv, const u32* visible, bf16* y, float* lse, SIZES) {
  forward<bf16>(qkv, visible, y, lse, VALUES);
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_dots_bf16(const bf16* y, const bf16* dy, float* delta, u32 len, u32 heads, u32 d, u64 count) {
  dots<bf16>(y, dy, delta, {heads, heads, d, len}, count);
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_q_bf16(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv, SIZES) {
  backward_q<bf16>(qkv, visible, lse, dy, delta, dqkv, VALUES);
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_kv_bf16(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv, SIZES) {
  backward_kv<bf16>(qkv, visible, lse, dy, delta, dqkv, VALUES);
}
