// The head without logits in memory. Live rows are gathered first; a block then has 64 of them and 64 columns of the vocabulary,
// and what their product leaves of a row is four numbers (training, sampling) or a piece of its gradient (backward, by chunks of
// the vocabulary, which the products of gemm/ turn into dx and dw). Blocks beyond the live rows end at once, so that a plan is
// made for all rows and paid for by those that count.
//
// Cost: 2 n v d flops for n live rows; the weights through L2 once for every 64 rows, 16 bytes for 64 logits. Tiles of 64 x 64 by
// 4 warps of mma.sync (bf16) read 32 flops a byte of shared memory: predicted at half of mma.sync's rate. f32 by FFMA.
#include "ampere.cuh"
#include "philox.cuh"
#include "reduce.cuh"

constexpr u32 TILE = 64;
constexpr u32 THREADS = 128;
constexpr u32 PITCH = TILE + 1;
constexpr u32 NUMBERS = 4;

// Rows of a factor on their way into a stage: DEPTH elements from k on, zeros beyond either end.
template <class X, u32 DEPTH, u32 WIDE>
__device__ __forceinline__ void fetch(X* to, const X* from, u32 first, u32 rows, u32 k, u32 d) {
  constexpr u32 PER = 16 / sizeof(X);
  if (d % PER == 0) {
    for (u32 e = threadIdx.x; e < TILE * (DEPTH / PER); e += THREADS) {
      const u32 r = e / (DEPTH / PER), c = k + e % (DEPTH / PER) * PER;
      const bool in = first + r < rows && c < d;
      cp_async16(to + r * WIDE + (c - k), from + (u64)(in ? first + r : 0) * d + (in ? c : 0), in);
    }
  } else {
    for (u32 e = threadIdx.x; e < TILE * DEPTH; e += THREADS) {
      const u32 r = e / DEPTH, c = k + e % DEPTH;
      to[r * WIDE + (c - k)] = first + r < rows && c < d ? from[(u64)(first + r) * d + c] : from_f32<X>(0.f);
    }
  }
  cp_commit();
}

// logits[64, PITCH] = rows row.. of x times rows column.. of w.
template <class X>
struct Product;

template <>
struct Product<bf16> {
  static constexpr u32 DEPTH = 32, WIDE = DEPTH + 8, STAGE = TILE * WIDE;
  static __device__ __forceinline__ void run(float* logits, bf16* stages, const bf16* x, u32 row, u32 rows, const bf16* w,
                                             u32 column, u32 v, u32 d) {
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x & 31, steps = (d + DEPTH - 1) / DEPTH;
    float sums[8][4] = {};
    auto load = [&](u32 step) {
      bf16* to = stages + step % 2 * 2 * STAGE;
      fetch<bf16, DEPTH, WIDE>(to, x, row, rows, step * DEPTH, d);
      fetch<bf16, DEPTH, WIDE>(to + STAGE, w, column, v, step * DEPTH, d);
    };
    load(0);
    for (u32 step = 0; step < steps; step++) {
      if (step + 1 < steps) {
        load(step + 1);
        cp_wait<2>();
      } else {
        cp_wait<0>();
      }
      __syncthreads();
      const bf16 *a_tile = stages + step % 2 * 2 * STAGE, *b_tile = a_tile + STAGE;
#pragma unroll
      for (u32 k = 0; k < DEPTH; k += 16) {
        u32 a[4];
        ldmatrix_x4(a, a_tile + (16 * warp + (lane & 15)) * WIDE + k + (lane >> 4) * 8);
#pragma unroll
        for (u32 n = 0; n < 4; n++) {
          u32 b[4];
          ldmatrix_x4(b, b_tile + (16 * n + (lane & 7) + (lane >> 4) * 8) * WIDE + k + ((lane >> 3) & 1) * 8);
          mma_m16n8k16(sums[2 * n], a, b[0], b[1]);
          mma_m16n8k16(sums[2 * n + 1], a, b[2], b[3]);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (u32 n = 0; n < 8; n++)
#pragma unroll
      for (u32 z = 0; z < 4; z++)
        logits[(16 * warp + lane / 4 + z / 2 * 8) * PITCH + 8 * n + 2 * (lane & 3) + z % 2] = sums[n][z];
    __syncthreads();
  }
};

template <>
struct Product<float> {
  static constexpr u32 DEPTH = 16, WIDE = DEPTH + 4, STAGE = TILE * WIDE;
  static __device__ __forceinline__ void run(float* logits, float* stages, const float* x, u32 row, u32 rows, const float* w,
                                             u32 column, u32 v, u32 d) {
    const u32 i = threadIdx.x / 16 * 8, j = threadIdx.x % 16, steps = (d + DEPTH - 1) / DEPTH;
    float sums[8][4] = {};
    auto load = [&](u32 step) {
      float* to = stages + step % 2 * 2 * STAGE;
      fetch<float, DEPTH, WIDE>(to, x, row, rows, step * DEPTH, d);
      fetch<float, DEPTH, WIDE>(to + STAGE, w, column, v, step * DEPTH, d);
    };
    load(0);
    for (u32 step = 0; step < steps; step++) {
      if (step + 1 < steps) {
        load(step + 1);
        cp_wait<2>();
      } else {
        cp_wait<0>();
      }
      __syncthreads();
      const float *a = stages + step % 2 * 2 * STAGE, *b = a + STAGE;
#pragma unroll 4
      for (u32 k = 0; k < DEPTH; k++) {
        float left[8], right[4];
#pragma unroll
        for (u32 r = 0; r < 8; r++) left[r] = a[(i + r) * WIDE + k];
#pragma unroll
        for (u32 c = 0; c < 4; c++) right[c] = b[(j + 16 * c) * WIDE + k];
#pragma unroll
        for (u32 r = 0; r < 8; r++)
#pragma unroll
          for (u32 c = 0; c < 4; c++) sums[r][c] += left[r] * right[c];
      }
      __syncthreads();
    }
#pragma unroll
    for (u32 r = 0; r < 8; r++)
#pragma unroll
      for (u32 c = 0; c < 4; c++) logits[(i + r) * PITCH + j + 16 * c] = sums[r][c];
    __syncthreads();
  }
};

// Shared memory: 64 x 64 logits, then two stages of both factors (STAGES in cuda.rs).
template <class X>
__device__ __forceinline__ float* tile_of(float* shared, const X* x, u32 row, u32 rows, const X* w, u32 column, u32 v, u32 d) {
  Product<X>::run(shared, reinterpret_cast<X*>(shared + TILE * PITCH + TILE), x, row, rows, w, column, v, d);
  return shared;
}

// The numbers of the rows whose flag is set, in order, and how many they are; zeros to the outputs of the others. One block.
template <class Live>
__device__ __forceinline__ void number(Live live, u32 n, u32* numbers, u32* count, u32* a, u32* b, u32* c) {
  STATIC_SHARED(u32, totals, 32);
  const u32 lane = threadIdx.x & 31, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  u32 before = 0;
  for (u32 first = 0; first < n; first += blockDim.x) {
    const u32 i = first + threadIdx.x;
    const bool on = i < n && live(i);
    const u32 ballot = __ballot_sync(FULL_WARP, on);
    __syncthreads();
    if (lane == 0) totals[warp] = __popc(ballot);
    __syncthreads();
    u32 at = before + __popc(ballot & ((1u << lane) - 1)), all = 0;
    for (u32 w = 0; w < warps; w++) {
      if (w < warp) at += totals[w];
      all += totals[w];
    }
    if (on) numbers[at] = i;
    if (i < n && !on) {
      if (a) a[i] = 0;
      if (b) b[i] = 0;
      if (c) c[i] = 0;
    }
    before += all;
  }
  if (threadIdx.x == 0) *count = before;
}
extern "C" __global__ void __launch_bounds__(1024)
head_number_weights(const float* weight, u32 n, u32* numbers, u32* count, u32* a, u32* b, u32* c) {
  number([=](u32 i) { return weight[i] != 0.f; }, n, numbers, count, a, b, c);
}
extern "C" __global__ void __launch_bounds__(1024)
head_number_flags(const u32* live, u32 n, u32* numbers, u32* count, u32* a, u32* b, u32* c) {
  number([=](u32 i) { return live[i] != 0; }, n, numbers, count, a, b, c);
}

// The live rows of x, then zeros: a warp has a row.
template <class X>
__device__ __forceinline__ void gather(const X* x, const u32* numbers, const u32* count, X* to, u32 n, u32 d) {
  const u32 row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= n) return;
  const bool live = row < *count;
  const X* from = x + (u64)(live ? numbers[row] : 0) * d;
  for (u32 c = threadIdx.x & 31; c < d; c += 32) to[(u64)row * d + c] = live ? from[c] : from_f32<X>(0.f);
}
extern "C" __global__ void head_gather_f32(const float* x, const u32* numbers, const u32* count, float* to, u32 n, u32 d) {
  gather(x, numbers, count, to, n, d);
}
extern "C" __global__ void head_gather_bf16(const bf16* x, const u32* numbers, const u32* count, bf16* to, u32 n, u32 d) {
  gather(x, numbers, count, to, n, d);
}

// What a tile leaves of each of its rows: the largest logit, the sum of exp(u - top), of (top - u) exp(u - top), and of
// exp((u - top) / temperature); and the logit at the row's target, where targets are given.
template <class X>
__device__ __forceinline__ void parts(const X* x, const X* w, const float* bias, const u32* numbers, const u32* count,
                                      const u32* target, float* logits, float* parts, u32 v, u32 d, u32 forbid, float inverse) {
  DYN_SHARED(float, shared);
  const u32 tiles = (v + TILE - 1) / TILE, column = blockIdx.x % tiles * TILE, row = blockIdx.x / tiles * TILE, rows = *count;
  if (row >= rows) return;
  const float* tile = tile_of(shared, x, row, rows, w, column, v, d);
  // Two threads have a row, 32 columns each.
  const u32 r = threadIdx.x / 2, from = threadIdx.x % 2 * 32, i = row + r;
  float top = -F32_INF;
  bool nan = false;
  const float* u = tile + r * PITCH;
  auto at = [&](u32 c) -> float {
    const u32 j = column + c;
    if (j >= v || j == forbid) return -F32_INF;
    return u[c] + (bias ? bias[j] : 0.f);
  };
  for (u32 c = from; c < from + 32; c++) {
    const float value = at(c);
    nan |= value != value;
    top = fmaxf(top, value);
  }
  top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
  float total = 0.f, moment = 0.f, tempered = 0.f;
  if (top != -F32_INF) {
    for (u32 c = from; c < from + 32; c++) {
      const float value = at(c), e = expf(value - top);
      total += e;
      if (e > 0.f) moment += e * (top - value);
      tempered += inverse == 1.f ? e : expf((value - top) * inverse);
    }
  }
  if (nan) total = moment = tempered = __int_as_float(0x7fffffff);
  total += __shfl_xor_sync(FULL_WARP, total, 1);
  moment += __shfl_xor_sync(FULL_WARP, moment, 1);
  tempered += __shfl_xor_sync(FULL_WARP, tempered, 1);
  if (i >= rows) return;
  if (from == 0) {
    float* out = parts + ((u64)i * tiles + column / TILE) * NUMBERS;
    out[0] = top, out[1] = total, out[2] = moment, out[3] = tempered;
  }
  if (target) {
    const u32 wanted = target[numbers[i]];
    if (wanted >= column + from && wanted < column + from + 32 && wanted < v) logits[i] = at(wanted - column);
  }
}
extern "C" __global__ void __launch_bounds__(THREADS)
head_parts_f32(const float* x, const float* w, const float* bias, const u32* numbers, const u32* count, const u32* target,
               float* logits, float* out, u32 v, u32 d, u32 forbid, float inverse) {
  parts(x, w, bias, numbers, count, target, logits, out, v, d, forbid, inverse);
}
extern "C" __global__ void __launch_bounds__(THREADS)
head_parts_bf16(const bf16* x, const bf16* w, const float* bias, const u32* numbers, const u32* count, const u32* target,
                float* logits, float* out, u32 v, u32 d, u32 forbid, float inverse) {
  parts(x, w, bias, numbers, count, target, logits, out, v, d, forbid, inverse);
}

// A row's parts joined by a warp, in f64.
struct Joined {
  float top;
  double total, moment, tempered;
};
__device__ __forceinline__ double warp_sum_f64(double v) {
  for (u32 o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(FULL_WARP, v, o);
  return v;
}
// exp((a part's top - top) / temperature).
__device__ __forceinline__ float share(const float* part, float top, float inverse) {
  return part[0] == -F32_INF ? 1.f : expf((part[0] - top) * inverse);
}
__device__ __forceinline__ Joined join(const float* parts, u32 count, float inverse) {
  const u32 lane = threadIdx.x & 31;
  Joined row = {-F32_INF, 0., 0., 0.};
  for (u32 p = lane; p < count; p += 32) row.top = fmaxf(row.top, parts[p * NUMBERS]);
  row.top = warp_max(row.top);
  for (u32 p = lane; p < count; p += 32) {
    const float* part = parts + p * NUMBERS;
    const double factor = share(part, row.top, 1.f), below = part[0] == -F32_INF ? 0. : (double)row.top - part[0];
    row.total += part[1] * factor;
    row.moment += factor * (part[2] + below * part[1]);
    row.tempered += part[3] * share(part, row.top, inverse);
  }
  row.total = warp_sum_f64(row.total);
  row.moment = warp_sum_f64(row.moment);
  row.tempered = warp_sum_f64(row.tempered);
  return row;
}

// nll and lse of every live row: a warp each.
extern "C" __global__ void __launch_bounds__(THREADS)
head_join(const float* parts, const float* logits, const u32* numbers, const u32* count, const u32* target, float* nll,
          float* lse, u32 tiles, u32 v, u32 forbid) {
  const u32 i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (i >= *count) return;
  const Joined row = join(parts + (u64)i * tiles * NUMBERS, tiles, 1.f);
  if ((threadIdx.x & 31) == 0) {
    const u32 n = numbers[i], wanted = target[n];
    const double sum = (double)row.top + log(row.total);
    lse[n] = (float)sum;
    // A target that no column has is never found.
    nll[n] = (float)(sum - (wanted < v && wanted != forbid ? (double)logits[i] : -(double)F32_INF));
  }
}

// loss = sum of weight nll over the live rows, in f64 and in a fixed order. One block.
extern "C" __global__ void __launch_bounds__(1024)
head_loss(const float* weight, const float* nll, const u32* numbers, const u32* count, float* loss) {
  STATIC_SHARED(double, sums, 32);
  double sum = 0.;
  for (u32 i = threadIdx.x; i < *count; i += blockDim.x) sum += (double)weight[numbers[i]] * nll[numbers[i]];
  sum = warp_sum_f64(sum);
  if ((threadIdx.x & 31) == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    double all = 0.;
    for (u32 w = 0; w < blockDim.x / 32; w++) all += sums[w];
    *loss = (float)all;
  }
}

// g = dloss weight (exp(u - lse) - [target]) of a chunk of columns, of every live row; zeros for the rows after them.
template <class X>
__device__ __forceinline__ void gradient(const X* x, const X* w, const float* bias, const u32* numbers, const u32* count,
                                         const u32* target, const float* weight, const float* lse, const float* dloss, X* g,
                                         u32 n, u32 first, u32 columns, u32 d, u32 forbid) {
  DYN_SHARED(float, shared);
  const u32 tiles = (columns + TILE - 1) / TILE, column = blockIdx.x % tiles * TILE, row = blockIdx.x / tiles * TILE;
  const u32 rows = *count;
  float* tile = shared;
  if (row < rows) tile_of(shared, x, row, rows, w + (u64)first * d, column, columns, d);
  for (u32 e = threadIdx.x; e < TILE * TILE; e += THREADS) {
    const u32 r = e / TILE, c = e % TILE, i = row + r;
    if (i >= n || column + c >= columns) continue;
    float value = 0.f;
    if (i < rows) {
      const u32 number = numbers[i], j = first + column + c;
      const float scale = *dloss * weight[number];
      if (j != forbid) {
        value = scale * expf(tile[r * PITCH + c] + (bias ? bias[j] : 0.f) - lse[number]);
        if (j == target[number]) value -= scale;
      }
    }
    g[(u64)i * columns + column + c] = from_f32<X>(value);
  }
}
extern "C" __global__ void __launch_bounds__(THREADS)
head_gradient_f32(const float* x, const float* w, const float* bias, const u32* numbers, const u32* count, const u32* target,
                  const float* weight, const float* lse, const float* dloss, float* g, u32 n, u32 first, u32 columns, u32 d,
                  u32 forbid) {
  gradient(x, w, bias, numbers, count, target, weight, lse, dloss, g, n, first, columns, d, forbid);
}
extern "C" __global__ void __launch_bounds__(THREADS)
head_gradient_bf16(const bf16* x, const bf16* w, const float* bias, const u32* numbers, const u32* count, const u32* target,
                   const float* weight, const float* lse, const float* dloss, bf16* g, u32 n, u32 first, u32 columns, u32 d,
                   u32 forbid) {
  gradient(x, w, bias, numbers, count, target, weight, lse, dloss, g, n, first, columns, d, forbid);
}

// dx of the live rows from their sums, zeros for the others: a warp has a row of dx, and looks its number up.
template <class X>
__device__ __forceinline__ void scatter(const float* sums, const u32* numbers, const u32* count, X* dx, u32 n, u32 d) {
  const u32 row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= n) return;
  // The first number that is not below the row: they ascend.
  u32 low = 0, high = *count;
  while (low < high) {
    const u32 middle = (low + high) / 2;
    if (numbers[middle] < row) low = middle + 1;
    else high = middle;
  }
  const bool live = low < *count && numbers[low] == row;
  for (u32 c = threadIdx.x & 31; c < d; c += 32)
    dx[(u64)row * d + c] = from_f32<X>(live ? sums[(u64)low * d + c] : 0.f);
}
extern "C" __global__ void head_scatter_f32(const float* sums, const u32* numbers, const u32* count, float* dx, u32 n, u32 d) {
  scatter(sums, numbers, count, dx, n, d);
}
extern "C" __global__ void head_scatter_bf16(const float* sums, const u32* numbers, const u32* count, bf16* dx, u32 n, u32 d) {
  scatter(sums, numbers, count, dx, n, d);
}

// A token of every live row: a block each. The part that holds the draw is found by the parts' sums; its logits are computed
// once more.
template <class X>
__device__ __forceinline__ void choose(const X* x, const X* w, const float* bias, const float* parts, const u32* numbers,
                                       const u32* count, const u32* rng, u32* ids, float* log_p, float* entropy, u32 v, u32 d,
                                       u32 forbid, u32 stream, float temperature) {
  STATIC_SHARED(float, logits, TILE);
  STATIC_SHARED(double, rest, 1);
  STATIC_SHARED(u32, chosen, 1);
  const u32 i = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x / 32, tiles = (v + TILE - 1) / TILE;
  if (i >= *count) return;
  const float inverse = temperature == 0.f ? 1.f : 1.f / temperature;
  const float* mine = parts + (u64)i * tiles * NUMBERS;
  const Joined row = join(mine, tiles, inverse);
  if (threadIdx.x == 0) {
    u32 part = 0;
    double target = 0.;
    if (temperature == 0.f) {
      while (part + 1 < tiles && mine[part * NUMBERS] != row.top) part++;
      if (mine[part * NUMBERS] != row.top) part = 0;
    } else {
      const u32x4 words = philox4x32_10({0, numbers[i], rng[2], stream}, {rng[0], rng[1]});
      const u64 bits = ((u64)words.x << 32 | words.y) >> 12;
      target = ((double)bits + 0.5) * (1. / 4503599627370496.) * row.tempered;
      double left = F32_INF;
      for (u32 p = 0; p < tiles; p++) {
        const double mass = mine[p * NUMBERS + 3] * share(mine + p * NUMBERS, row.top, inverse);
        if (mass > 0.) part = p, left = target;
        if (target < mass) break;
        target -= mass;
      }
      target = left;
    }
    *chosen = part;
    *rest = target;
  }
  __syncthreads();
  const u32 from = *chosen * TILE;
  for (u32 c = warp; c < TILE; c += THREADS / 32) {
    const u32 j = from + c;
    float sum = 0.f;
    if (j < v)
      for (u32 k = lane; k < d; k += 32) sum += to_f32(x[(u64)i * d + k]) * to_f32(w[(u64)j * d + k]);
    sum = warp_sum(sum);
    if (lane == 0) logits[c] = j >= v || j == forbid ? -F32_INF : sum + (bias ? bias[j] : 0.f);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    u32 column = 0;
    double target = *rest;
    if (temperature == 0.f) {
      for (u32 c = 1; c < TILE && from + c < v; c++)
        if (logits[c] > logits[column]) column = c;
    } else {
      for (u32 c = 0; c < TILE && from + c < v; c++) {
        const double mass = expf((logits[c] - row.top) * inverse);
        if (mass > 0.) {
          column = c;
          if (target < mass) break;
          target -= mass;
        }
      }
    }
    const u32 n = numbers[i];
    ids[n] = from + column;
    log_p[n] = (float)((double)logits[column] - ((double)row.top + log(row.total)));
    entropy[n] = (float)(log(row.total) + row.moment / row.total);
  }
}
extern "C" __global__ void __launch_bounds__(THREADS)
head_choose_f32(const float* x, const float* w, const float* bias, const float* parts, const u32* numbers, const u32* count,
                const u32* rng, u32* ids, float* log_p, float* entropy, u32 v, u32 d, u32 forbid, u32 stream,
                float temperature) {
  choose(x, w, bias, parts, numbers, count, rng, ids, log_p, entropy, v, d, forbid, stream, temperature);
}
extern "C" __global__ void __launch_bounds__(THREADS)
head_choose_bf16(const bf16* x, const bf16* w, const float* bias, const float* parts, const u32* numbers, const u32* count,
                 const u32* rng, u32* ids, float* log_p, float* entropy, u32 v, u32 d, u32 forbid, u32 stream,
                 float temperature) {
  choose(x, w, bias, parts, numbers, count, rng, ids, log_p, entropy, v, d, forbid, stream, temperature);
}
