// The rule of AdamW (ops/adamw/cpu.rs), with its roundings: no contraction, so that every kernel that moves a parameter gives
// the same bits.
#pragma once
#include "base.cuh"

// Positions in the vector `hyper` (parameters.rs).
enum HyperAt : u32 { HYPER_LR = 0, HYPER_MUON_LR = 1, HYPER_MAX_NORM = 2, HYPER_CORRECTION_1 = 3, HYPER_CORRECTION_2 = 4, HYPER_EMA_DECAY = 5 };

// min(1, max_norm / norm); NaN of a norm that is not a number.
__device__ __forceinline__ float clip_of(float max_norm, float norm) {
  const float ratio = max_norm / norm;
  return ratio >= 1.f ? 1.f : ratio;
}

struct AdamWRule {
  float beta_1, beta_2, eps, weight_decay, lr, correct_1, correct_2, ema_rest;

  __device__ __forceinline__ AdamWRule(float beta_1, float beta_2, float eps, float weight_decay, const float* hyper)
      : beta_1(beta_1), beta_2(beta_2), eps(eps), weight_decay(weight_decay), lr(hyper[HYPER_LR]),
        correct_1(hyper[HYPER_CORRECTION_1]), correct_2(hyper[HYPER_CORRECTION_2]),
        ema_rest(1.f - hyper[HYPER_EMA_DECAY]) {}

  // One element; g is clipped already.
  __device__ __forceinline__ void step(float g, float& param, float& m, float& v) const {
    m = __fadd_rn(__fmul_rn(beta_1, m), __fmul_rn(1.f - beta_1, g));
    v = __fadd_rn(__fmul_rn(beta_2, v), __fmul_rn(1.f - beta_2, __fmul_rn(g, g)));
    const float direction = __fmul_rn(m, correct_1) / __fadd_rn(sqrtf(__fmul_rn(v, correct_2)), eps);
    param = __fadd_rn(param, -__fmul_rn(lr, __fadd_rn(__fmul_rn(weight_decay, param), direction)));
  }
  __device__ __forceinline__ float averaged(float ema, float param) const {
    return __fadd_rn(ema, __fmul_rn(ema_rest, __fadd_rn(param, -ema)));
  }
};
