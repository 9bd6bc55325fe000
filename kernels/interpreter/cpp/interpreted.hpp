// The language of a kernel in C++: qualifiers, indices, and the intrinsics of every GPU.
//
// Included before a kernel's own text, outside of the unnamed namespace that the build script wraps around it.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i8 = signed char;
using i32 = int;
using i64 = long long;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define F32_INF __builtin_inff()

// Where a kernel calls: the default arguments of everything that may wait or fail.
#define INTERPRETER_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define INTERPRETER_PLACE \
  interpreter::Place { file, (u32)line }

namespace interpreter {
struct Place {
  const char* file;
  u32 line;
};
struct Dim3 {
  u32 x, y, z;
};
// What the running thread knows of itself.
struct Ids {
  Dim3 thread, block, threads, blocks;
  u32 linear;
};
extern thread_local Ids* ids __attribute__((tls_model("initial-exec")));

u8* dynamic_shared();
// The array that belongs to `key` (one for each declaration) in the running block.
void* static_shared(const void* key, size_t bytes, size_t align);
void atomic_access(const void* at, size_t bytes, Place);
void sync_threads(Place);
void bar_sync(u32 id, u32 count, Place);
void bar_arrive(u32 id, u32 count, Place);
void sync_warp(u32 mask, Place);
// The value of lane `source`, which must take part.
u64 shuffle(u32 mask, u64 value, u32 source, Place);
u32 ballot(u32 mask, bool vote, Place);
enum class Reduce : u32 { Add, MinU, MaxU, MinI, MaxI, And, Or, Xor };
u32 reduce(u32 mask, u32 value, Reduce, Place);

template <class T>
T shuffle_as(u32 mask, T value, u32 source, Place place) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  u64 raw = 0;
  memcpy(&raw, &value, sizeof(T));
  raw = shuffle(mask, raw, source, place);
  memcpy(&value, &raw, sizeof(T));
  return value;
}
inline u32 lane() { return ids->linear & 31; }
}  // namespace interpreter

#define threadIdx (interpreter::ids->thread)
#define blockIdx (interpreter::ids->block)
#define blockDim (interpreter::ids->threads)
#define gridDim (interpreter::ids->blocks)

#define DYN_SHARED(T, name) T* name = reinterpret_cast<T*>(interpreter::dynamic_shared())
#define STATIC_SHARED(T, name, count)  \
  static const char name##_key = 0;    \
  T* name = static_cast<T*>(interpreter::static_shared(&name##_key, sizeof(T) * (count), alignof(T)))

inline void __syncthreads(INTERPRETER_HERE) { interpreter::sync_threads(INTERPRETER_PLACE); }
inline void bar_sync(u32 id, u32 count, INTERPRETER_HERE) { interpreter::bar_sync(id, count, INTERPRETER_PLACE); }
inline void bar_arrive(u32 id, u32 count, INTERPRETER_HERE) { interpreter::bar_arrive(id, count, INTERPRETER_PLACE); }
inline void __syncwarp(u32 mask = 0xffffffffu, INTERPRETER_HERE) { interpreter::sync_warp(mask, INTERPRETER_PLACE); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
T __shfl_sync(u32 mask, T value, int source, int width = 32, INTERPRETER_HERE) {
  const u32 first = interpreter::lane() & ~(u32)(width - 1);
  return interpreter::shuffle_as(mask, value, first + ((u32)source & (u32)(width - 1)), INTERPRETER_PLACE);
}
template <class T>
T __shfl_xor_sync(u32 mask, T value, int with, int width = 32, INTERPRETER_HERE) {
  const u32 mine = interpreter::lane(), from = mine ^ (u32)with, end = (mine & ~(u32)(width - 1)) + (u32)width;
  return interpreter::shuffle_as(mask, value, from < end ? from : mine, INTERPRETER_PLACE);
}
template <class T>
T __shfl_down_sync(u32 mask, T value, u32 by, int width = 32, INTERPRETER_HERE) {
  const u32 mine = interpreter::lane(), inside = mine & (u32)(width - 1);
  return interpreter::shuffle_as(mask, value, inside + by < (u32)width ? mine + by : mine, INTERPRETER_PLACE);
}
template <class T>
T __shfl_up_sync(u32 mask, T value, u32 by, int width = 32, INTERPRETER_HERE) {
  const u32 mine = interpreter::lane(), inside = mine & (u32)(width - 1);
  return interpreter::shuffle_as(mask, value, inside >= by ? mine - by : mine, INTERPRETER_PLACE);
}
inline u32 __ballot_sync(u32 mask, int vote, INTERPRETER_HERE) {
  return interpreter::ballot(mask, vote != 0, INTERPRETER_PLACE);
}
inline int __any_sync(u32 mask, int vote, INTERPRETER_HERE) {
  return interpreter::ballot(mask, vote != 0, INTERPRETER_PLACE) != 0;
}
inline int __all_sync(u32 mask, int vote, INTERPRETER_HERE) {
  return interpreter::ballot(mask, vote == 0, INTERPRETER_PLACE) == 0;
}
#define INTERPRETER_REDUCE(name, T, op)                                                              \
  inline T name(u32 mask, T value, INTERPRETER_HERE) {                                               \
    return (T)interpreter::reduce(mask, (u32)value, interpreter::Reduce::op, INTERPRETER_PLACE);     \
  }
INTERPRETER_REDUCE(__reduce_add_sync, u32, Add)
INTERPRETER_REDUCE(__reduce_add_sync, int, Add)
INTERPRETER_REDUCE(__reduce_min_sync, u32, MinU)
INTERPRETER_REDUCE(__reduce_min_sync, int, MinI)
INTERPRETER_REDUCE(__reduce_max_sync, u32, MaxU)
INTERPRETER_REDUCE(__reduce_max_sync, int, MaxI)
INTERPRETER_REDUCE(__reduce_and_sync, u32, And)
INTERPRETER_REDUCE(__reduce_or_sync, u32, Or)
INTERPRETER_REDUCE(__reduce_xor_sync, u32, Xor)
#undef INTERPRETER_REDUCE

// A block has its OS thread for itself, so what is atomic on a GPU is plain here; it is announced as atomic, and the
// compiler's calls before every access are left out.
#define INTERPRETER_UNWATCHED __attribute__((no_sanitize("thread")))
#define INTERPRETER_ATOMIC(name, result)                                   \
  template <class T>                                                       \
  INTERPRETER_UNWATCHED T name(T* at, T x, INTERPRETER_HERE) {             \
    interpreter::atomic_access(at, sizeof(T), INTERPRETER_PLACE);          \
    const T old = *at;                                                     \
    *at = result;                                                          \
    return old;                                                            \
  }
INTERPRETER_ATOMIC(atomicAdd, old + x)
INTERPRETER_ATOMIC(atomicMin, x < old ? x : old)
INTERPRETER_ATOMIC(atomicMax, x > old ? x : old)
INTERPRETER_ATOMIC(atomicExch, x)
INTERPRETER_ATOMIC(atomicOr, old | x)
INTERPRETER_ATOMIC(atomicAnd, old & x)
// The next is after `last` zero: the counter of "the last block to finish".
INTERPRETER_ATOMIC(atomicInc, old >= x ? 0 : old + 1)
// The greater of floats of any sign.
INTERPRETER_ATOMIC(atomic_max, x > old ? x : old)
#undef INTERPRETER_ATOMIC
template <class T>
INTERPRETER_UNWATCHED T atomicCAS(T* at, T expected, T x, INTERPRETER_HERE) {
  interpreter::atomic_access(at, sizeof(T), INTERPRETER_PLACE);
  const T old = *at;
  if (old == expected) *at = x;
  return old;
}

inline float __uint_as_float(u32 bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
inline u32 __float_as_uint(float x) {
  u32 bits;
  memcpy(&bits, &x, 4);
  return bits;
}
inline float __int_as_float(int bits) { return __uint_as_float((u32)bits); }
inline int __float_as_int(float x) { return (int)__float_as_uint(x); }

// The fast functions in full precision: the C library declares some of these names, hence macros.
#define __expf(x) expf(x)
#define __exp2f(x) exp2f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __fdividef(x, y) ((x) / (y))
#define __frcp_rn(x) (1.f / (x))
#define __fsqrt_rn(x) sqrtf(x)
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __saturatef(float x) { return x > 0.f ? (x < 1.f ? x : 1.f) : 0.f; }
inline int __float2int_rn(float x) { return (int)rintf(x); }
inline int __float2int_rd(float x) { return (int)floorf(x); }
inline float __int2float_rn(int x) { return (float)x; }
inline u32 __umulhi(u32 x, u32 y) { return (u32)((u64)x * y >> 32); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((u32)x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __popc(u32 x) { return __builtin_popcount(x); }
// c plus the products of four signed bytes.
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) c += (int)(i8)(a >> i) * (int)(i8)(b >> i);
  return c;
}
inline u32 pack_bf16(float lo, float hi) {
  const auto nearest = [](float x) -> u32 {
    const u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  };
  return nearest(lo) | nearest(hi) << 16;
}
template <class T>
T __ldg(const T* at) { return *at; }

#define INTERPRETER_MIN_MAX(T)                           \
  inline T min(T a, T b) { return a < b ? a : b; }       \
  inline T max(T a, T b) { return a > b ? a : b; }
INTERPRETER_MIN_MAX(int)
INTERPRETER_MIN_MAX(u32)
INTERPRETER_MIN_MAX(long)
INTERPRETER_MIN_MAX(unsigned long)
INTERPRETER_MIN_MAX(i64)
INTERPRETER_MIN_MAX(u64)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
#undef INTERPRETER_MIN_MAX

// The toolkit's vector types.
struct uint2 { u32 x, y; };
struct int2 { int x, y; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
