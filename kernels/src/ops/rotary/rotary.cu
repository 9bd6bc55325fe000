// rotary: every pair (i, i + d_head / 2) of a head of q and k is rotated by its position, v is copied. A thread turns one
// vector of each half: 2 elements move for each of y, the table stays in cache.
#include "vec.cuh"

template <class X>
__device__ __forceinline__ void rotary(const X* qkv, const float* table, const u32* past, X* y, u64 rows, u32 half,
                                       u32 heads, u32 turned, u32 len, u32 positions, float sign) {
  each_in_rows<PIECE<X>>(rows, half, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    const u64 token = quotient(row, heads), at = row * 2 * half + col;
    const u32 head = (u32)(row - token * heads);
    const u64 position = token - quotient(token, len) * len + (past ? *past : 0);
    float a[N], b[N];
    load<N>(a, qkv + at);
    load<N>(b, qkv + at + half);
    if (head < turned && position >= positions) {
      // Beyond the table: shown, not read.
#pragma unroll
      for (int i = 0; i < N; i++) a[i] = b[i] = __int_as_float(0x7fffffff);
    } else if (head < turned) {
      float cosine[N], sine[N];
      const float* angles = table + position * 2 * half + col;
      load<N>(cosine, angles);
      load<N>(sine, angles + half);
#pragma unroll
      for (int i = 0; i < N; i++) {
        const float s = sign * sine[i], left = a[i], right = b[i];
        a[i] = left * cosine[i] - right * s;
        b[i] = left * s + right * cosine[i];
      }
    }
    store<N>(y + at, a);
    store<N>(y + at + half, b);
  });
}

extern "C" __global__ void rotary_f32(const float* qkv, const float* table, const u32* past, float* y, u64 rows, u32 half,
                                      u32 heads, u32 turned, u32 len, u32 positions, float sign) {
  rotary(qkv, table, past, y, rows, half, heads, turned, len, positions, sign);
}
extern "C" __global__ void rotary_bf16(const bf16* qkv, const float* table, const u32* past, bf16* y, u64 rows, u32 half,
                                       u32 heads, u32 turned, u32 len, u32 positions, float sign) {
  rotary(qkv, table, past, y, rows, half, heads, turned, len, positions, sign);
}
