// What every kernel may use, on any GPU. No header of the toolkit is included: NVRTC needs no include path beyond these
// files, and the same source compiles as C++ for the interpreter, which defines INTERPRETED.
#pragma once

#ifdef INTERPRETED
#include "interpreted.hpp"
#else
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i8 = signed char;
using i32 = int;
using i64 = long long;

// The launch's dynamic shared memory as T*, aligned to 1024 bytes.
#define DYN_SHARED(T, name)                                          \
  extern __shared__ __align__(1024) unsigned char dynamic_shared[];  \
  T* name = reinterpret_cast<T*>(dynamic_shared)
// An array of a block whose size is known at compile time.
#define STATIC_SHARED(T, name, count) __shared__ T name[count]
#define F32_INF __int_as_float(0x7f800000)

// Named barriers (1 to 15): `count` threads meet, whole warps; bar_arrive does not wait.
__device__ __forceinline__ void bar_sync(u32 id, u32 count) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
}
__device__ __forceinline__ void bar_arrive(u32 id, u32 count) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory");
}
// Two floats rounded to nearest even: `lo` in the lower half.
__device__ __forceinline__ u32 pack_bf16(float lo, float hi) {
  u32 d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
  return d;
}
// Atomic maximum of floats of any sign; *at starts as a number, not NaN.
__device__ __forceinline__ void atomic_max(float* at, float value) {
  if (value >= 0.f) {
    atomicMax(reinterpret_cast<int*>(at), __float_as_int(value));
  } else {
    atomicMin(reinterpret_cast<u32*>(at), __float_as_uint(value));
  }
}
#endif

#define FULL_WARP 0xffffffffu

struct bf16 {
  u16 bits;
};
struct __align__(4) bf16x2 {
  bf16 lo, hi;
};
// 8 and 16 bytes: what one load or store moves.
struct __align__(8) bf16x4 {
  bf16x2 v[2];
};
struct __align__(16) bf16x8 {
  bf16x2 v[4];
};
struct __align__(8) f32x2 {
  float lo, hi;
};
struct __align__(16) f32x4 {
  float v[4];
};
struct __align__(8) u32x2 {
  u32 x, y;
};
struct __align__(16) u32x4 {
  u32 x, y, z, w;
};

__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
__device__ __forceinline__ f32x2 to_f32(bf16x2 x) { return {to_f32(x.lo), to_f32(x.hi)}; }
__device__ __forceinline__ bf16 to_bf16(float x) { return {(u16)pack_bf16(x, 0.f)}; }
__device__ __forceinline__ bf16x2 to_bf16x2(float lo, float hi) {
  const u32 d = pack_bf16(lo, hi);
  return {{(u16)d}, {(u16)(d >> 16)}};
}
// A float as an element of the type that a kernel is compiled for.
template <class T>
__device__ __forceinline__ T from_f32(float x);
template <>
__device__ __forceinline__ float from_f32<float>(float x) { return x; }
template <>
__device__ __forceinline__ bf16 from_f32<bf16>(float x) { return to_bf16(x); }

// Four elements as floats: one load of 16 (f32) or 8 (bf16) bytes. `at` is aligned to that.
__device__ __forceinline__ f32x4 load4(const float* at) { return *reinterpret_cast<const f32x4*>(at); }
__device__ __forceinline__ f32x4 load4(const bf16* at) {
  const bf16x4 x = *reinterpret_cast<const bf16x4*>(at);
  return {{to_f32(x.v[0].lo), to_f32(x.v[0].hi), to_f32(x.v[1].lo), to_f32(x.v[1].hi)}};
}
__device__ __forceinline__ void store4(float* at, f32x4 x) { *reinterpret_cast<f32x4*>(at) = x; }
__device__ __forceinline__ void store4(bf16* at, f32x4 x) {
  const bf16x4 y = {{to_bf16x2(x.v[0], x.v[1]), to_bf16x2(x.v[2], x.v[3])}};
  *reinterpret_cast<bf16x4*>(at) = y;
}
// Eight elements as floats: two loads (f32) or one (bf16) of 16 bytes.
__device__ __forceinline__ void load8(float (&x)[8], const float* at) {
  const f32x4 a = load4(at), b = load4(at + 4);
#pragma unroll
  for (int i = 0; i < 4; i++) x[i] = a.v[i], x[i + 4] = b.v[i];
}
__device__ __forceinline__ void load8(float (&x)[8], const bf16* at) {
  const bf16x8 a = *reinterpret_cast<const bf16x8*>(at);
#pragma unroll
  for (int i = 0; i < 4; i++) x[2 * i] = to_f32(a.v[i].lo), x[2 * i + 1] = to_f32(a.v[i].hi);
}
__device__ __forceinline__ void store8(float* at, const float (&x)[8]) {
  store4(at, {{x[0], x[1], x[2], x[3]}});
  store4(at + 4, {{x[4], x[5], x[6], x[7]}});
}
__device__ __forceinline__ void store8(bf16* at, const float (&x)[8]) {
  bf16x8 y;
#pragma unroll
  for (int i = 0; i < 4; i++) y.v[i] = to_bf16x2(x[2 * i], x[2 * i + 1]);
  *reinterpret_cast<bf16x8*>(at) = y;
}
