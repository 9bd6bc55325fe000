// wishes: the normaliser of every row (a group of threads holds it in registers), then the few numbers of every text and wish in
// f64 by one block, in order. Backward: the slope of every wish at every row, then dlogits in one pass over the rows, to which
// one thread adds the wishes' own tokens in order. Moves 4 bytes forward and 8 backward an element, the floor.
#include "logits.cuh"

constexpr u32 WISH_ANY = 0xffffffffu, WISH_ALL = 0xfffffffeu;

// A wish of a text whose logits and normalisers these are.
struct One {
  u32 token, place;
  bool complement, fits;
  const float *logits, *lse;
  u32 len, v;

  __device__ __forceinline__ One(const u32* wish, const float* logits, const float* lse, u32 len, u32 v)
      : token(wish[0]), place(wish[1]), complement(wish[2] != 0), logits(logits), lse(lse), len(len), v(v) {
    fits = token < v && (place == WISH_ANY || place == WISH_ALL || place < len);
  }
  __device__ __forceinline__ double log_p(u32 l) const { return (double)logits[(u64)l * v + token] - (double)lse[l]; }
  // log sum_l exp lp_l.
  __device__ double log_sum() const {
    double top = log_p(0), sum = 0.;
    for (u32 l = 1; l < len; l++) top = fmax(top, log_p(l));
    for (u32 l = 0; l < len; l++) sum += exp(log_p(l) - top);
    return top + log(sum);
  }
  // log(1 - p) for a complement, log p else, and its derivative.
  __device__ double opposite(double x) const { return complement ? log(fmax(-expm1(x), 1e-7)) : x; }
  __device__ double turn(double x) const { return complement ? -exp(x) / fmax(-expm1(x), 1e-7) : 1.; }
  __device__ double value() const {
    if (!fits) return 0.;
    if (place == WISH_ANY) return opposite(log_sum() - (double)len);
    if (place != WISH_ALL) return opposite(log_p(place));
    double sum = 0.;
    for (u32 l = 0; l < len; l++) sum += opposite(log_p(l));
    return sum;
  }
  // d log p / d lp_l.
  __device__ double slope(u32 l) const {
    if (!fits || (place < WISH_ALL && place != l)) return 0.;
    if (place != WISH_ANY) return turn(log_p(l));
    const double total = log_sum();
    return turn(total - (double)len) * exp(log_p(l) - total);
  }
};

template <int N>
__device__ __forceinline__ void normalisers(const float* logits, float* lse, u64 n, u32 v, u32 lanes) {
  STATIC_SHARED(float, scratch, 32);
  const Group group(lanes);
  for (u64 at_row = group.first(); at_row < n; at_row += group.step()) {
    const u64 row = at_row + group.sub;
    Logits<N, 1> logit(group, logits + row * v, row < n ? v : 0);
    logit.out[0] = NO_COLUMN;
    const float top = logit.max(scratch);
    const float total = logit.sum(scratch, [=](float x) { return expf(x - top); });
    if (group.lane == 0 && row < n) lse[row] = top + logf(total);
  }
}

template <int N>
__device__ __forceinline__ void gradient(const float* logits, const u32* wishes, const float* lse, const double* slopes,
                                         float* dlogits, u64 n, u32 v, u32 lanes, u32 count) {
  const Group group(lanes);
  for (u64 at_row = group.first(); at_row < n; at_row += group.step()) {
    const u64 row = at_row + group.sub;
    const bool in = row < n;
    Logits<N, 1> logit(group, logits + row * v, in ? v : 0);
    double total = 0.;
    for (u32 k = 0; in && k < count; k++) total += slopes[row * count + k];
    const float factor = (float)-total, normaliser = in ? lse[row] : 0.f;
    logit.map(dlogits + row * v, [=](u32, float x) { return factor * expf(x - normaliser); });
    __syncthreads();
    if (group.lane == 0) {
      for (u32 k = 0; in && k < count; k++) {
        const u32 token = wishes[3 * k];
        if (token < v) dlogits[row * v + token] += (float)slopes[row * count + k];
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(512, 1) wishes_lse(const float* logits, float* lse, u64 n, u32 v, u32 lanes) {
  if (v % 4 == 0) {
    normalisers<4>(logits, lse, n, v, lanes);
  } else {
    normalisers<1>(logits, lse, n, v, lanes);
  }
}
// One block.
extern "C" __global__ void __launch_bounds__(256)
    wishes_loss(const float* logits, const u32* wishes, const float* weight, const float* lse, float* loss, u32 batch,
                u32 len, u32 v, u32 count) {
  STATIC_SHARED(double, scratch, 32);
  double sum = 0.;
  for (u64 i = threadIdx.x; i < (u64)batch * count; i += blockDim.x) {
    const u64 b = quotient(i, count), k = i - b * count;
    sum += (double)weight[k] * One(wishes + 3 * k, logits + b * len * v, lse + b * len, len, v).value();
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *loss = (float)sum;
}
extern "C" __global__ void wishes_slopes(const float* logits, const u32* wishes, const float* weight, const float* lse,
                                         const float* dloss, double* slopes, u64 n, u32 len, u32 v, u32 count) {
  const u64 i = grid_thread();
  if (i >= n * count) return;
  const u64 row = quotient(i, count), k = i - row * count, b = quotient(row, len);
  const One one(wishes + 3 * k, logits + b * len * v, lse + b * len, len, v);
  slopes[i] = (double)*dloss * (double)weight[k] * one.slope((u32)(row - b * len));
}
extern "C" __global__ void __launch_bounds__(512, 1)
    wishes_grad(const float* logits, const u32* wishes, const float* lse, const double* slopes, float* dlogits, u64 n, u32 v,
                u32 lanes, u32 count) {
  if (v % 4 == 0) {
    gradient<4>(logits, wishes, lse, slopes, dlogits, n, v, lanes, count);
  } else {
    gradient<1>(logits, wishes, lse, slopes, dlogits, n, v, lanes, count);
  }
}
