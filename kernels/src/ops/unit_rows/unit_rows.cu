// unit_rows: y = x / (|x| + eps), rows in registers of a group of threads: read once, written once; its gradient reads two
// tensors. Moves 8 bytes forward and 12 backward an element, the floor.
#include "row.cuh"

// 1 / x, and 0 for 0: a row of zeros without an eps has no direction.
__device__ __forceinline__ float inverse(float x) { return x == 0.f ? 0.f : 1.f / x; }

// dy is null forward.
template <int N>
__device__ __forceinline__ void rows(const float* x, const float* dy, float* y, u64 n, u32 d_row, u32 lanes, float eps) {
  constexpr int E = HELD<N>;
  STATIC_SHARED(float, scratch, 32);
  const Group group(lanes);
  for (u64 at_row = group.first(); at_row < n; at_row += group.step()) {
    const u64 row = at_row + group.sub, first = row * d_row;
    const u32 d = row < n ? d_row : 0;
    const Row<float, N, E> point(group, x + first, d), slope(group, (dy ? dy : x) + first, d);
    float square = 0.f, dot = 0.f;
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N], g[N];
      point.get(v, k, at);
      slope.get(g, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) {
        square += v[i] * v[i];
        dot += v[i] * g[i];
      }
    });
    const float length = sqrtf(group.sum(square, scratch)), factor = inverse(length + eps);
    const float along = group.sum(dot, scratch) * factor * inverse(length);
    pieces<N, E>(group, d, [&](int k, u32 at) {
      float v[N], g[N];
      point.get(v, k, at);
      slope.get(g, k, at);
#pragma unroll
      for (int i = 0; i < N; i++) v[i] = dy ? (g[i] - v[i] * along) * factor : v[i] * factor;
      store<N>(y + first + at, v);
    });
  }
}

extern "C" __global__ void __launch_bounds__(256)
    unit_rows(const float* x, const float* dy, float* y, u64 n, u32 d, u32 lanes, float eps) {
  if (d % 4 == 0) {
    rows<4>(x, dy, y, n, d, lanes, eps);
  } else {
    rows<1>(x, dy, y, n, d, lanes, eps);
  }
}
