// The activations as the CPU has them (ops/activation/cpu.rs), in f32 by the device's own functions.
#pragma once
#include "base.cuh"

// Their numbers as a planner passes them.
enum Activation : u32 { ACT_NONE = 0, ACT_RELU = 1, ACT_SILU = 2, ACT_GELU = 3, ACT_GELU_ERF = 4, ACT_TANH = 5 };

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }
// The normal law's distribution function, by the complementary error function, which keeps small values.
__device__ __forceinline__ float normal_cdf(float u) { return 0.5f * erfcf(-0.70710678118654752f * u); }
// The argument of GELU's tanh form as a sigmoid: 2 sqrt(2 / pi) (u + 0.044715 u^3).
__device__ __forceinline__ float gelu_argument(float u) { return 1.595769f * (u + 0.044715f * u * u * u); }

// act(u). A function of its own: six forms in one loop would take the registers of all.
__device__ __forceinline__ float activate(u32 activation, float u) {
  switch (activation) {
    case ACT_RELU: return u < 0.f ? 0.f : u;
    case ACT_SILU: return u * sigmoid(u);
    case ACT_GELU: return u * sigmoid(gelu_argument(u));
    case ACT_GELU_ERF: return u * normal_cdf(u);
    case ACT_TANH: return tanhf(u);
    default: return u;
  }
}

// act'(u).
__device__ __forceinline__ float activation_slope(u32 activation, float u) {
  switch (activation) {
    case ACT_RELU: return u <= 0.f ? 0.f : 1.f;
    case ACT_SILU: {
      const float s = sigmoid(u);
      return s + u * s * (1.f - s);
    }
    case ACT_GELU: {
      // Beyond ten the derivative is 0 or 1 in f32, and u^3 may overflow; what is not a number stays so.
      const float v = u < -10.f ? -10.f : u > 10.f ? 10.f : u;
      const float s = sigmoid(gelu_argument(v));
      return s + v * s * (1.f - s) * 1.595769f * (1.f + 3.f * 0.044715f * v * v);
    }
    case ACT_GELU_ERF: return normal_cdf(u) + u * 0.3989422804f * expf(-0.5f * u * u);
    case ACT_TANH: {
      const float y = tanhf(u);
      return (1.f - y) * (1.f + y);
    }
    default: return 1.f;
  }
}
