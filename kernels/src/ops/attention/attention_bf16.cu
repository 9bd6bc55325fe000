// Attention in bf16 on tensor cores (mma.sync), for heads of 32, 64, 96 or 128. Tiles of 64 queries by 64 keys; a warp has
// 16 rows, scores and mixtures stay in its registers, and what is multiplied next arrives by cp.async meanwhile. A tile's rows
// are padded by 16 bytes, so that ldmatrix meets no bank twice for any of these widths.
//
// Forward: 4 b l^2 d flops, 8 b l d bytes: at l = 128 and d = 64 about 64 flops a byte of device memory, so the floor is memory's
// up to l = 350 and tensor cores' beyond. mma.sync reaches some 60 % of an H100's wgmma rate.
// Backward: queries by one kernel, keys and values by another, so that every sum has one owner and a fixed order: 14 instead
// of 10 b l^2 d flops, and no atomics.
#include "ampere.cuh"
#include "attention.cuh"

constexpr u32 TILE = 64;
constexpr u32 WARPS = 4;
constexpr u32 THREADS = 32 * WARPS;
// Queries, or keys, that a backward kernel turns over at a time: what fits registers beside two sums.
constexpr u32 STRIP = 32;

template <int D>
constexpr u32 PITCH = D + 8;

// Rows first.. of a matrix on their way into a tile, zeros beyond the last.
template <int D>
__device__ __forceinline__ void fetch(bf16* to, const bf16* from, u64 stride, u32 first, u32 len, u32 rows) {
  for (u32 e = threadIdx.x; e < rows * (D / 8); e += THREADS) {
    const u32 r = e / (D / 8), c = e % (D / 8) * 8, row = min(first + r, len - 1);
    cp_async16(to + r * PITCH<D> + c, from + (u64)row * stride + c, first + r < len);
  }
}

// Rows row.. of a tile, 16 of them, columns 16 k..: the left operand of a product.
template <int D>
__device__ __forceinline__ void left(u32 (&a)[4], const bf16* tile, u32 row, u32 k) {
  const u32 lane = threadIdx.x & 31;
  ldmatrix_x4(a, tile + (row + (lane & 15)) * PITCH<D> + 16 * k + (lane >> 4) * 8);
}
// The same as the right operand of two products: the rows are 16 columns of the result.
template <int D>
__device__ __forceinline__ void right(u32 (&b)[4], const bf16* tile, u32 row, u32 k) {
  const u32 lane = threadIdx.x & 31;
  ldmatrix_x4(b, tile + (row + (lane & 7) + (lane >> 4) * 8) * PITCH<D> + 16 * k + ((lane >> 3) & 1) * 8);
}
// Rows row.., columns 16 n.. of a tile as a right operand whose rows are summed over.
template <int D>
__device__ __forceinline__ void right_turned(u32 (&b)[4], const bf16* tile, u32 row, u32 n) {
  const u32 lane = threadIdx.x & 31;
  ldmatrix_x4_trans(b, tile + (row + (lane & 15)) * PITCH<D> + 16 * n + (lane >> 4) * 8);
}

// s[16, 16 N] = rows of one tile times rows of another.
template <int D, int N>
__device__ __forceinline__ void scores(float (&s)[2 * N][4], const bf16* a_tile, u32 a_row, const bf16* b_tile, u32 b_row) {
#pragma unroll
  for (int n = 0; n < 2 * N; n++)
#pragma unroll
    for (int z = 0; z < 4; z++) s[n][z] = 0.f;
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
    u32 a[4];
    left<D>(a, a_tile, a_row, k);
#pragma unroll
    for (int n = 0; n < N; n++) {
      u32 b[4];
      right<D>(b, b_tile, b_row + 16 * n, k);
      mma_m16n8k16(s[2 * n], a, b[0], b[1]);
      mma_m16n8k16(s[2 * n + 1], a, b[2], b[3]);
    }
  }
}

// sums[16, D] += s[16, 16 N] times rows of a tile.
template <int D, int N>
__device__ __forceinline__ void mix(float (&sums)[D / 8][4], const float (&s)[2 * N][4], const bf16* tile, u32 row) {
#pragma unroll
  for (int k = 0; k < N; k++) {
    const u32 a[4] = {pack_bf16(s[2 * k][0], s[2 * k][1]), pack_bf16(s[2 * k][2], s[2 * k][3]),
                      pack_bf16(s[2 * k + 1][0], s[2 * k + 1][1]), pack_bf16(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
    for (int n = 0; n < D / 16; n++) {
      u32 b[4];
      right_turned<D>(b, tile, row + 16 * k, n);
      mma_m16n8k16(sums[2 * n], a, b[0], b[1]);
      mma_m16n8k16(sums[2 * n + 1], a, b[2], b[3]);
    }
  }
}

// Sixteen rows of a result, each times its factor, to rows first.. of a matrix: 16 bytes a thread, by way of `stage`, a piece
// of shared memory that is this warp's alone.
template <int D>
__device__ __forceinline__ void put(const float (&sums)[D / 8][4], float low, float high, bf16* stage, bf16* to, u64 stride,
                                    u32 first, u32 len) {
  const u32 lane = threadIdx.x & 31, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < D / 8; n++) {
    *reinterpret_cast<u32*>(stage + g * PITCH<D> + 8 * n + 2 * t) = pack_bf16(low * sums[n][0], low * sums[n][1]);
    *reinterpret_cast<u32*>(stage + (g + 8) * PITCH<D> + 8 * n + 2 * t) = pack_bf16(high * sums[n][2], high * sums[n][3]);
  }
  __syncwarp();
  for (u32 e = lane; e < 16 * (D / 8); e += 32) {
    const u32 r = e / (D / 8), c = e % (D / 8) * 8;
    if (first + r < len)
      *reinterpret_cast<bf16x8*>(to + (u64)(first + r) * stride + c) = *reinterpret_cast<bf16x8*>(stage + r * PITCH<D> + c);
  }
}

// The maximum, or the sum, over the four lanes that share a row.
__device__ __forceinline__ float quad_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(FULL_WARP, v, 1));
  return fmaxf(v, __shfl_xor_sync(FULL_WARP, v, 2));
}
__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(FULL_WARP, v, 1);
  return v + __shfl_xor_sync(FULL_WARP, v, 2);
}

// The first tile from j on that a block of queries meets; len if there is none.
__device__ __forceinline__ u32 next_keys(Pairs pairs, u32 first, u32 j, u32 len) {
  while (j < len && !pairs.meet(first, min(first + TILE, len) - 1, j, min(j + TILE, len) - 1)) j += TILE;
  return j;
}

template <int D>
__device__ __forceinline__ void forward(const bf16* qkv, const u32* visible, bf16* y, float* lse, Heads at, Pairs pairs,
                                        Kept kept) {
  DYN_SHARED(bf16, shared);
  constexpr u32 SIZE = TILE * PITCH<D>;
  bf16 *q = shared, *k = q + SIZE, *v = k + 2 * SIZE;
  const u32 len = at.len, tiles = (len + TILE - 1) / TILE, first = blockIdx.x % tiles * TILE;
  const u32 h = blockIdx.x / tiles % at.heads, b = blockIdx.x / tiles / at.heads, kv = h / at.group();
  const u32 warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane / 4, t = lane % 4;
  const bf16* text = qkv + at.qkv_row(b, 0);
  const float scale = rsqrtf((float)D);
  const u32 row[2] = {first + 16 * warp + g, first + 16 * warp + g + 8};

  auto load = [&](u32 stage, u32 j) {
    if (j < len) {
      fetch<D>(k + stage * SIZE, text + at.k(kv), at.width(), j, len, TILE);
      fetch<D>(v + stage * SIZE, text + at.v(kv), at.width(), j, len, TILE);
    }
    cp_commit();
  };
  fetch<D>(q, text + at.q(h), at.width(), first, len, TILE);
  u32 j0 = next_keys(pairs, first, 0, len), stage = 0;
  load(0, j0);

  float o[D / 8][4] = {};
  float top[2] = {-F32_INF, -F32_INF}, sum[2] = {0.f, 0.f};
  while (j0 < len) {
    const u32 next = next_keys(pairs, first, j0 + TILE, len);
    load(stage ^ 1, next);
    cp_wait<1>();
    __syncthreads();
    float s[8][4];
    scores<D, 4>(s, q, 16 * warp, k + stage * SIZE, 0);
    float most[2] = {top[0], top[1]};
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
      for (int z = 0; z < 4; z++) {
        const u32 i = row[z / 2], j = j0 + 8 * n + 2 * t + z % 2;
        const bool seen = j < len && i < len && pairs.sees(i, j) && (!visible || visible[(u64)b * len + j]);
        s[n][z] = seen ? s[n][z] * scale : -F32_INF;
        most[z / 2] = fmaxf(most[z / 2], s[n][z]);
      }
    float shrink[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      most[r] = quad_max(most[r]);
      shrink[r] = most[r] == -F32_INF ? 1.f : exp_2(top[r] - most[r]);
      top[r] = most[r];
      sum[r] *= shrink[r];
    }
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        u32x4 words = {0, 0, 0, 0};
        if (kept.rng) words = kept.words(b * at.heads + h, row[r], j0 + 8 * n);
#pragma unroll
        for (int z = 0; z < 2; z++) {
          float& x = s[n][2 * r + z];
          x = x == -F32_INF ? 0.f : exp_2(x - top[r]);
          sum[r] += x;
          if (kept.rng) x *= kept.factor(words, 2 * t + z);
        }
      }
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
      for (int z = 0; z < 4; z++) o[n][z] *= shrink[z / 2];
    mix<D, 4>(o, s, v + stage * SIZE, 0);
    __syncthreads();
    j0 = next;
    stage ^= 1;
  }
  cp_wait<0>();
  __syncthreads();
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    sum[r] = quad_sum(sum[r]);
    inverse[r] = sum[r] > 0.f ? 1.f / sum[r] : 0.f;
    if (t == 0 && row[r] < len) lse[at.lse(b, h, row[r])] = top[r] + logf(sum[r]);
  }
  put<D>(o, inverse[0], inverse[1], q + 16 * warp * PITCH<D>, y + at.y_row(b, 0) + at.q(h), (u64)at.heads * D,
         first + 16 * warp, len);
}

// The gradients of a block of queries: scores again, and dy times values, strip by strip of keys.
template <int D>
__device__ __forceinline__ void backward_q(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy,
                                           const float* delta, bf16* dqkv, Heads at, Pairs pairs, Kept kept) {
  DYN_SHARED(bf16, shared);
  constexpr u32 SIZE = TILE * PITCH<D>;
  bf16 *q = shared, *gradient = q + SIZE, *k = gradient + SIZE, *v = k + SIZE;
  const u32 len = at.len, tiles = (len + TILE - 1) / TILE, first = blockIdx.x % tiles * TILE;
  const u32 h = blockIdx.x / tiles % at.heads, b = blockIdx.x / tiles / at.heads, kv = h / at.group();
  const u32 warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane / 4, t = lane % 4;
  const bf16* text = qkv + at.qkv_row(b, 0);
  const float scale = rsqrtf((float)D);
  fetch<D>(q, text + at.q(h), at.width(), first, len, TILE);
  fetch<D>(gradient, dy + at.y_row(b, 0) + at.q(h), (u64)at.heads * D, first, len, TILE);
  u32 row[2];
  float total[2], along[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    row[r] = first + 16 * warp + g + 8 * r;
    total[r] = row[r] < len ? lse[at.lse(b, h, row[r])] : 0.f;
    along[r] = row[r] < len ? delta[at.lse(b, h, row[r])] : 0.f;
  }
  float dq[D / 8][4] = {};
  for (u32 j0 = next_keys(pairs, first, 0, len); j0 < len; j0 = next_keys(pairs, first, j0 + TILE, len)) {
    __syncthreads();
    fetch<D>(k, text + at.k(kv), at.width(), j0, len, TILE);
    fetch<D>(v, text + at.v(kv), at.width(), j0, len, TILE);
    cp_commit();
    cp_wait<0>();
    __syncthreads();
#pragma unroll 1
    for (u32 strip = 0; strip < TILE; strip += STRIP) {
      float s[STRIP / 8][4], dp[STRIP / 8][4];
      scores<D, STRIP / 16>(s, q, 16 * warp, k, strip);
      scores<D, STRIP / 16>(dp, gradient, 16 * warp, v, strip);
#pragma unroll
      for (int n = 0; n < (int)STRIP / 8; n++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
          const u32 i = row[r], from = j0 + strip + 8 * n;
          u32x4 words = {0, 0, 0, 0};
          if (kept.rng) words = kept.words(b * at.heads + h, i, from);
#pragma unroll
          for (int z = 0; z < 2; z++) {
            const u32 j = from + 2 * t + z;
            const bool seen = j < len && i < len && pairs.sees(i, j) && (!visible || visible[(u64)b * len + j]);
            const float weight = seen ? exp_2(s[n][2 * r + z] * scale - total[r]) : 0.f;
            const float factor = kept.rng ? kept.factor(words, 2 * t + z) : 1.f;
            s[n][2 * r + z] = weight * (factor * dp[n][2 * r + z] - along[r]);
          }
        }
      mix<D, STRIP / 16>(dq, s, k, strip);
    }
  }
  cp_wait<0>();
  __syncthreads();
  put<D>(dq, scale, scale, q + 16 * warp * PITCH<D>, dqkv + at.qkv_row(b, 0) + at.q(h), at.width(), first + 16 * warp, len);
}

// The gradients of a block of keys and values: everything turned, a warp having 16 keys, strip by strip of queries.
template <int D>
__device__ __forceinline__ void backward_kv(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy,
                                            const float* delta, bf16* dqkv, Heads at, Pairs pairs, Kept kept) {
  DYN_SHARED(bf16, shared);
  constexpr u32 SIZE = TILE * PITCH<D>;
  bf16 *k = shared, *v = k + SIZE, *q = v + SIZE, *gradient = q + SIZE;
  float *totals = reinterpret_cast<float*>(gradient + SIZE), *alongs = totals + TILE;
  const u32 len = at.len, tiles = (len + TILE - 1) / TILE, first = blockIdx.x % tiles * TILE;
  const u32 kv = blockIdx.x / tiles % at.kv_heads, b = blockIdx.x / tiles / at.kv_heads;
  const u32 warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane / 4, t = lane % 4;
  const bf16* text = qkv + at.qkv_row(b, 0);
  const float scale = rsqrtf((float)D);
  fetch<D>(k, text + at.k(kv), at.width(), first, len, TILE);
  fetch<D>(v, text + at.v(kv), at.width(), first, len, TILE);
  u32 key[2];
  bool shown[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    key[r] = first + 16 * warp + g + 8 * r;
    shown[r] = key[r] < len && (!visible || visible[(u64)b * len + key[r]]);
  }
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
#pragma unroll 1
  for (u32 h = kv * at.group(); h < (kv + 1) * at.group(); h++) {
#pragma unroll 1
    for (u32 i0 = 0; i0 < len; i0 += TILE) {
      if (!pairs.meet(i0, min(i0 + TILE, len) - 1, first, min(first + TILE, len) - 1)) continue;
      __syncthreads();
      fetch<D>(q, text + at.q(h), at.width(), i0, len, TILE);
      fetch<D>(gradient, dy + at.y_row(b, 0) + at.q(h), (u64)at.heads * D, i0, len, TILE);
      cp_commit();
      if (threadIdx.x < TILE) {
        const bool in = i0 + threadIdx.x < len;
        totals[threadIdx.x] = in ? lse[at.lse(b, h, i0 + threadIdx.x)] : 0.f;
        alongs[threadIdx.x] = in ? delta[at.lse(b, h, i0 + threadIdx.x)] : 0.f;
      }
      cp_wait<0>();
      __syncthreads();
#pragma unroll 1
      for (u32 strip = 0; strip < TILE; strip += STRIP) {
        float p[STRIP / 8][4], ds[STRIP / 8][4];
        scores<D, STRIP / 16>(p, k, 16 * warp, q, strip);
        scores<D, STRIP / 16>(ds, v, 16 * warp, gradient, strip);
#pragma unroll
        for (int n = 0; n < (int)STRIP / 8; n++)
#pragma unroll
          for (int z = 0; z < 4; z++) {
            const u32 in = strip + 8 * n + 2 * t + z % 2, i = i0 + in, j = key[z / 2];
            const bool seen = shown[z / 2] && i < len && pairs.sees(i, j);
            const float weight = seen ? exp_2(p[n][z] * scale - totals[in]) : 0.f;
            const float factor = kept.of(b * at.heads + h, i, j);
            p[n][z] = weight * factor;
            ds[n][z] = weight * (factor * ds[n][z] - alongs[in]);
          }
        mix<D, STRIP / 16>(dv, p, gradient, strip);
        mix<D, STRIP / 16>(dk, ds, q, strip);
      }
    }
  }
  cp_wait<0>();
  __syncthreads();
  bf16 *stage = k + 16 * warp * PITCH<D>, *rows = dqkv + at.qkv_row(b, 0);
  put<D>(dk, scale, scale, stage, rows + at.k(kv), at.width(), first + 16 * warp, len);
  __syncwarp();
  put<D>(dv, 1.f, 1.f, stage, rows + at.v(kv), at.width(), first + 16 * warp, len);
}

#define SIZES u32 len, u32 heads, u32 kv_heads, u32 kind, u32 block, const u32 *rng, u32 stream, u32 least, float scale
#define VALUES(D) {heads, kv_heads, D, len}, {kind, block, len}, {rng, stream, least, scale}

extern "C" __global__ void __launch_bounds__(THREADS)
attention_bf16_32(const bf16* qkv, const u32* visible, bf16* y, float* lse, SIZES) {
  forward<32>(qkv, visible, y, lse, VALUES(32));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_q_bf16_32(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv,
                       SIZES) {
  backward_q<32>(qkv, visible, lse, dy, delta, dqkv, VALUES(32));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_kv_bf16_32(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv,
                        SIZES) {
  backward_kv<32>(qkv, visible, lse, dy, delta, dqkv, VALUES(32));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_bf16_64(const bf16* qkv, const u32* visible, bf16* y, float* lse, SIZES) {
  forward<64>(qkv, visible, y, lse, VALUES(64));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_q_bf16_64(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv,
                       SIZES) {
  backward_q<64>(qkv, visible, lse, dy, delta, dqkv, VALUES(64));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_kv_bf16_64(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv,
                        SIZES) {
  backward_kv<64>(qkv, visible, lse, dy, delta, dqkv, VALUES(64));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_bf16_96(const bf16* qkv, const u32* visible, bf16* y, float* lse, SIZES) {
  forward<96>(qkv, visible, y, lse, VALUES(96));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_q_bf16_96(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv,
                       SIZES) {
  backward_q<96>(qkv, visible, lse, dy, delta, dqkv, VALUES(96));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_kv_bf16_96(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv,
                        SIZES) {
  backward_kv<96>(qkv, visible, lse, dy, delta, dqkv, VALUES(96));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_bf16_128(const bf16* qkv, const u32* visible, bf16* y, float* lse, SIZES) {
  forward<128>(qkv, visible, y, lse, VALUES(128));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_q_bf16_128(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv,
                       SIZES) {
  backward_q<128>(qkv, visible, lse, dy, delta, dqkv, VALUES(128));
}
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_kv_bf16_128(const bf16* qkv, const u32* visible, const float* lse, const bf16* dy, const float* delta, bf16* dqkv,
                        SIZES) {
  backward_kv<128>(qkv, visible, lse, dy, delta, dqkv, VALUES(128));
}
