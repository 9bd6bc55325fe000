// sample_tokens: a draw by the inverse of the cumulative sum, with the uniform number of the CPU, so that ids are equal but
// where rounding in f32 moves a boundary over the number. A group of threads holds a row in registers for its largest, its sum
// and its entropy; then every warp of the group adds the masses of its own run of columns in f64, the warp whose run the
// number falls into walks it 32 columns at a time (both from cache). Reads 4 n v bytes, the floor.
#include "draws.cuh"
#include "logits.cuh"

// What a draw weighs a logit with.
struct Weight {
  float top, inverse;
  bool largest;
  u32 forbid;
  __device__ __forceinline__ double of(u32 column, float x) const {
    if (column == forbid) return 0.;
    if (largest) return x == top ? 1. : 0.;
    return (double)expf((x - top) * inverse);
  }
};

// Over the threads of a group within a warp.
__device__ __forceinline__ double sum_within(u32 lanes, double v) {
  for (u32 o = lanes / 2; o > 0; o /= 2) v += __shfl_xor_sync(FULL_WARP, v, o);
  return v;
}

// The first of columns from..to at which the sum of the weights passes `target`, else the last that weighs something, else
// `otherwise`. By `lanes` threads of a warp, all groups of which have as many columns.
__device__ __forceinline__ u32 walk(const float* row, u32 from, u32 to, u32 lanes, double target, Weight weight, u32 otherwise) {
  const u32 lane = threadIdx.x & (lanes - 1), shift = threadIdx.x & 31 & ~(lanes - 1);
  const u32 all = lanes == 32 ? FULL_WARP : (1u << lanes) - 1;
  double before = 0.;
  u32 found = NO_COLUMN, last = otherwise;
  for (u32 at = from; at < to; at += lanes) {
    const u32 column = at + lane;
    const double mine = column < to ? weight.of(column, row[column]) : 0.;
    double upto = mine;
    for (u32 o = 1; o < lanes; o *= 2) {
      const double below = __shfl_up_sync(FULL_WARP, upto, o, (int)lanes);
      if (lane >= o) upto += below;
    }
    const u32 passed = __ballot_sync(FULL_WARP, mine > 0. && target < before + upto) >> shift & all;
    const u32 some = __ballot_sync(FULL_WARP, mine > 0.) >> shift & all;
    if (found == NO_COLUMN && passed) found = at + __ffs((int)passed) - 1;
    if (some) last = at + 31 - __clz((int)some);
    before += __shfl_sync(FULL_WARP, upto, (int)lanes - 1, (int)lanes);
  }
  return found != NO_COLUMN ? found : last;
}

template <int N>
__device__ __forceinline__ void sample(const float* logits, const u32* rng, u32* ids, float* log_p, float* entropy, u64 n,
                                       u32 v, u32 lanes, u32 stream, float temperature, u32 forbid) {
  STATIC_SHARED(float, scratch, 32);
  STATIC_SHARED(double, masses, 32);
  STATIC_SHARED(u32, drawn, 1);
  const Group group(lanes);
  for (u64 at_row = group.first(); at_row < n; at_row += group.step()) {
    const u64 r = at_row + group.sub;
    const bool in = r < n;
    // A group beyond the last row walks that one again, so that all groups of a warp take as many steps.
    const float* row = logits + (in ? r : n - 1) * v;
    Logits<N, 1> logit(group, row, v);
    logit.out[0] = forbid;
    const float top = logit.max(scratch);
    const float total = logit.sum(scratch, [=](float x) { return expf(x - top); });
    // A column of no mass adds nothing, even at negative infinity.
    const float moment = logit.sum(scratch, [=](float x) {
      const float e = expf(x - top);
      return e > 0.f ? e * (top - x) : e;
    });
    const bool largest = temperature == 0.f;
    const Weight weight = {top, largest ? 0.f : 1.f / temperature, largest, forbid};
    const u32x4 word = philox_block((u64)rng[1] << 32 | rng[0], stream, rng[2], (u32)r, 0);
    const double u = largest ? 0. : unit_f64(word.x, word.y);
    const u32 otherwise = forbid == 0 && v > 1 ? 1 : 0;
    const u32 warp = threadIdx.x >> 5, warps = lanes > 32 ? lanes / 32 : 1, within = lanes > 32 ? 32 : lanes;
    const u32 run = (v + warps - 1) / warps, from = lanes > 32 ? min(warp * run, v) : 0, to = min(from + run, v);
    double mass = 0.;
    for (u32 column = from + (threadIdx.x & (within - 1)); column < to; column += within) {
      mass += weight.of(column, row[column]);
    }
    mass = sum_within(within, mass);
    u32 id = otherwise;
    if (lanes > 32) {
      if ((threadIdx.x & 31) == 0) masses[warp] = mass;
      if (threadIdx.x == 0) *drawn = otherwise;
      __syncthreads();
      double all = 0.;
      for (u32 i = 0; i < warps; i++) all += masses[i];
      // The warp whose run holds the number; if rounding puts it beyond all, the last with any mass.
      double target = u * all, mine = F32_INF;
      u32 chosen = NO_COLUMN;
      for (u32 i = 0; i < warps; i++) {
        if (masses[i] > 0.) {
          chosen = i;
          mine = target;
          if (target < masses[i]) break;
        }
        target -= masses[i];
      }
      if (chosen == warp) {
        const u32 column = walk(row, from, to, 32, mine, weight, otherwise);
        if ((threadIdx.x & 31) == 0) *drawn = column;
      }
      __syncthreads();
      id = *drawn;
      __syncthreads();
    } else {
      id = walk(row, 0, v, lanes, u * mass, weight, otherwise);
    }
    if (group.lane == 0 && in) {
      ids[r] = id;
      log_p[r] = row[id] - top - logf(total);
      entropy[r] = logf(total) + moment / total;
    }
  }
}

extern "C" __global__ void __launch_bounds__(512)
    sample_tokens(const float* logits, const u32* rng, u32* ids, float* log_p, float* entropy, u64 n, u32 v, u32 lanes,
                  u32 stream, float temperature, u32 forbid) {
  if (v % 4 == 0) {
    sample<4>(logits, rng, ids, log_p, entropy, n, v, lanes, stream, temperature, forbid);
  } else {
    sample<1>(logits, rng, ids, log_p, entropy, n, v, lanes, stream, temperature, forbid);
  }
}
