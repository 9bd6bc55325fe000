// corrupt_gaussian: x_t = signal x_0 + sigma noise, the normals of a row in pairs from its words; the gradient: signal dy. One
// vector of 16 bytes a thread. Moves 3 elements forward and 2 backward for each of x_0.
#include "draws.cuh"
#include "vec.cuh"

// The normals of elements col..col + N of a row.
template <int N>
__device__ __forceinline__ void row_normals(float (&normals)[N], const u32* rng, u32 stream, u64 row, u32 col) {
  if constexpr (N == 1) {
    u32 words[4];
    row_words<4>(words, rng, stream, row, col & ~3u);
    const f32x2 pair = col & 2 ? normal_pair_f32(words[2], words[3]) : normal_pair_f32(words[0], words[1]);
    normals[0] = col & 1 ? pair.hi : pair.lo;
  } else {
    u32 words[N];
    row_words<N>(words, rng, stream, row, col);
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const f32x2 pair = normal_pair_f32(words[i], words[i + 1]);
      normals[i] = pair.lo;
      normals[i + 1] = pair.hi;
    }
  }
}

template <class X>
__device__ __forceinline__ void corrupt(const X* x_0, const float* level, const u32* rng, X* x_t, X* noise, u64 rows, u32 d,
                                        u32 len, u32 stream) {
  each_in_rows<PIECE<X>>(rows, d, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    const u64 text = quotient(row, len), at = row * d + col;
    const float signal = level[2 * text], sigma = level[2 * text + 1];
    float x[N], z[N];
    load<N>(x, x_0 + at);
    row_normals<N>(z, rng, stream, row, col);
    store<N>(noise + at, z);
    // Of the noise as it was written: a loss that subtracts it finds x_0 again.
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = signal * x[i] + sigma * to_f32(from_f32<X>(z[i]));
    store<N>(x_t + at, x);
  });
}

template <class X>
__device__ __forceinline__ void gradient(const float* level, const X* dy, X* dx, u64 texts, u32 width_of_text) {
  each_in_rows<PIECE<X>>(texts, width_of_text, [=](auto width, u64 text, u32 col) {
    constexpr int N = decltype(width)::n;
    const float signal = level[2 * text];
    const u64 at = text * width_of_text + col;
    float v[N];
    load<N>(v, dy + at);
#pragma unroll
    for (int i = 0; i < N; i++) v[i] *= signal;
    store<N>(dx + at, v);
  });
}

extern "C" __global__ void corrupt_gaussian_f32(const float* x_0, const float* level, const u32* rng, float* x_t,
                                                float* noise, u64 rows, u32 d, u32 len, u32 stream) {
  corrupt(x_0, level, rng, x_t, noise, rows, d, len, stream);
}
extern "C" __global__ void corrupt_gaussian_bf16(const bf16* x_0, const float* level, const u32* rng, bf16* x_t,
                                                 bf16* noise, u64 rows, u32 d, u32 len, u32 stream) {
  corrupt(x_0, level, rng, x_t, noise, rows, d, len, stream);
}
extern "C" __global__ void corrupt_gaussian_grad_f32(const float* level, const float* dy, float* dx, u64 texts, u32 width) {
  gradient(level, dy, dx, texts, width);
}
extern "C" __global__ void corrupt_gaussian_grad_bf16(const float* level, const bf16* dy, bf16* dx, u64 texts, u32 width) {
  gradient(level, dy, dx, texts, width);
}
