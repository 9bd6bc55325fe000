// posterior_kl: a block has a token, its p, m and dm in shared memory; its matrix Q_bar goes by once a pass, a column a thread on
// the way forward and a row a warp on the way back. Moves v^2 floats a token, which tokens of one batch row share in L2: the floor is
// 2 v^2 operations a token by FFMA. Posteriors in f64, as on the CPU.
#include "reduce.cuh"

constexpr u32 THREADS = 128;

// The matrices of a token.
struct Step {
  const float *q_bar, *from, *likelihood;
  bool is;

  __device__ __forceinline__ Step(const float* chain, u64 row, u32 x_0, u32 x_t, u32 v) {
    q_bar = chain + row * 2 * v * v;
    is = x_0 < v && x_t < v;
    from = q_bar + (u64)(is ? x_0 : 0) * v;
    likelihood = q_bar + (u64)v * v + (u64)(is ? x_t : 0) * v;
  }
  // The sum of x times the likelihood.
  __device__ __forceinline__ double mass(const float* x, u32 v, double* scratch) const {
    double sum = 0.;
    for (u32 k = threadIdx.x; k < v; k += THREADS) sum += (double)x[k] * likelihood[k];
    return block_sum(sum, scratch);
  }
};

// u - 1 - log u.
__device__ __forceinline__ double gap(double u) {
  const double e = u - 1.;
  return fabs(e) < 0.5 ? e - log1p(e) : e - log(u);
}

extern "C" __global__ void __launch_bounds__(THREADS)
posterior_kl(const float* logits, const u32* x_0, const u32* x_t, const float* chain, const float* w, float* d, float* p_out,
             float* m_out, u32 len, u32 v, float lambda) {
  DYN_SHARED(float, p);
  STATIC_SHARED(float, scratch, 32);
  STATIC_SHARED(double, sums, 32);
  const u64 n = blockIdx.x;
  const Step step(chain, n / len, x_0[n], x_t[n], v);
  const float* row = logits + n * v;
  if (w[n] == 0.f || !step.is) {
    for (u32 k = threadIdx.x; k < v; k += THREADS) p_out[n * v + k] = m_out[n * v + k] = 0.f;
    if (threadIdx.x == 0) d[n] = w[n] == 0.f ? 0.f : F32_INF;
    return;
  }
  float top = -F32_INF, total = 0.f;
  for (u32 k = threadIdx.x; k < v; k += THREADS) top = fmaxf(top, row[k]);
  top = block_max(top, scratch);
  for (u32 k = threadIdx.x; k < v; k += THREADS) total += p[k] = expf(row[k] - top);
  total = block_sum(total, scratch);
  for (u32 k = threadIdx.x; k < v; k += THREADS) p_out[n * v + k] = p[k] = p[k] / total;
  __syncthreads();
  double model = 0.;
  for (u32 k = threadIdx.x; k < v; k += THREADS) {
    float m = 0.f;
    for (u32 i = 0; i < v; i++) m += p[i] * step.q_bar[(u64)i * v + k];
    m_out[n * v + k] = m;
    model += (double)m * step.likelihood[k];
  }
  model = block_sum(model, sums);
  const double truth = step.mass(step.from, v, sums);
  double divergence = 0.;
  if (truth > 0.) {
    for (u32 k = threadIdx.x; k < v; k += THREADS) {
      if (step.likelihood[k] <= 0.f) continue;
      const double from = step.from[k] / truth, own = m_out[n * v + k] / model;
      divergence += step.likelihood[k] * (from > 0. ? from * gap(own / from) : own);
    }
  }
  divergence = block_sum(divergence, sums);
  if (threadIdx.x == 0) {
    const double ce = (double)logf(total) + (double)(top - row[x_0[n]]);
    d[n] = (float)(divergence + (lambda > 0.f ? lambda * ce : 0.));
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
posterior_kl_grad(const float* p, const float* m, const u32* x_0, const u32* x_t, const float* chain, const float* w,
                  const float* dloss, float* dlogits, float* dm_out, u32 len, u32 v, float lambda) {
  DYN_SHARED(float, shared);
  STATIC_SHARED(float, scratch, 32);
  STATIC_SHARED(double, sums, 32);
  float *dm = shared, *dp = shared + v;
  const u64 n = blockIdx.x;
  const Step step(chain, n / len, x_0[n], x_t[n], v);
  if (w[n] == 0.f || !step.is) {
    for (u32 k = threadIdx.x; k < v; k += THREADS) dlogits[n * v + k] = dm_out[n * v + k] = 0.f;
    return;
  }
  const double truth = step.mass(step.from, v, sums), model = step.mass(m + n * v, v, sums);
  for (u32 k = threadIdx.x; k < v; k += THREADS) {
    const float l = step.likelihood[k], mine = m[n * v + k];
    const double from = step.from[k] / truth, own = mine / model;
    float value = 0.f;
    // l / P - truth / m, over one denominator: near the truth the two cancel.
    if (truth > 0. && l > 0.f) value = (float)(from > 0. ? l * (own - from) / mine : l / model);
    dm_out[n * v + k] = dm[k] = value;
  }
  __syncthreads();
  const u32 lane = threadIdx.x & 31;
  for (u32 i = threadIdx.x / 32; i < v; i += THREADS / 32) {
    float sum = 0.f;
    for (u32 k = lane; k < v; k += 32) sum += step.q_bar[(u64)i * v + k] * dm[k];
    sum = warp_sum(sum);
    if (lane == 0) dp[i] = sum;
  }
  __syncthreads();
  float mean = 0.f;
  for (u32 k = threadIdx.x; k < v; k += THREADS) mean += p[n * v + k] * dp[k];
  mean = block_sum(mean, scratch);
  const float scale = w[n] * *dloss;
  for (u32 k = threadIdx.x; k < v; k += THREADS) {
    const float value = scale * p[n * v + k] * (dp[k] - mean + lambda);
    dlogits[n * v + k] = k == x_0[n] ? value - scale * lambda : value;
  }
}
