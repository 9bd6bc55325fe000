// ema: ema += (1 - decay) (param - ema), flat, four elements a thread. Moves 12 bytes an element, the floor.
#include "adamw.cuh"
#include "vec.cuh"

extern "C" __global__ void ema(const float* param, const float* hyper, float* average, u64 n) {
  const AdamWRule rule(0.f, 0.f, 0.f, 0.f, hyper);
  each<4>(n, [=](auto width, u64 i) {
    constexpr int N = decltype(width)::n;
    float p[N], a[N];
    load<N>(p, param + i);
    load<N>(a, average + i);
#pragma unroll
    for (int j = 0; j < N; j++) a[j] = rule.averaged(a[j], p[j]);
    store<N>(average + i, a);
  });
}
