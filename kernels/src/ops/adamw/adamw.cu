// adamw: a step on a flat run of parameters, with the moving average and the bf16 copy in the same pass. Four elements a
// thread: 16 bytes of each of g, param, m, v and ema are under way at once.
// Moves 28 bytes an element, 8 more with the average, 2 more with the copy: the floor.
#include "adamw.cuh"
#include "vec.cuh"

extern "C" __global__ void adamw(const float* g, const float* norm, const float* hyper, float* param, float* m, float* v,
                                 float* ema, bf16* copy, u64 n, float beta_1, float beta_2, float eps,
                                 float weight_decay) {
  const AdamWRule rule(beta_1, beta_2, eps, weight_decay, hyper);
  const float clip = norm ? clip_of(hyper[HYPER_MAX_NORM], *norm) : 1.f;
  each<4>(n, [=](auto width, u64 i) {
    constexpr int N = decltype(width)::n;
    float d[N], p[N], first[N], second[N], average[N];
    load<N>(d, g + i);
    load<N>(p, param + i);
    load<N>(first, m + i);
    load<N>(second, v + i);
    if (ema) load<N>(average, ema + i);
#pragma unroll
    for (int j = 0; j < N; j++) {
      rule.step(__fmul_rn(d[j], clip), p[j], first[j], second[j]);
      if (ema) average[j] = rule.averaged(average[j], p[j]);
    }
    store<N>(param + i, p);
    store<N>(m + i, first);
    store<N>(v + i, second);
    if (ema) store<N>(ema + i, average);
    if (copy) store<N>(copy + i, p);
  });
}
