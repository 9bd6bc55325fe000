// time_features: [cos(scale t f), sin(scale t f)], one thread a pair, angles in f64: scale t may be a thousand radians.
// A few hundred numbers: the launch is all it costs.
#include "vec.cuh"

extern "C" __global__ void time_features(const float* t, float* y, u64 batch, u32 half, float max_period, float scale) {
  const u64 i = grid_thread();
  if (i >= batch * half) return;
  const u64 b = quotient(i, half), k = i - b * half;
  const double log_ratio = -log((double)max_period) / half;
  const double angle = (double)scale * (double)t[b] * exp(log_ratio * (double)k);
  y[b * 2 * half + k] = (float)cos(angle);
  y[b * 2 * half + half + k] = (float)sin(angle);
}
