// The rows of x as int8, each with its scale and the sum of its values: the CPU's roundings, bit for bit.
//
// Layout: x [n, i] f32 or bf16, a int8 [n, i], rows [n, 2]; a warp has a row, which it reads twice, the second time from L1 or
// L2. Bytes: n i (4 or 2, + 1). Floor: bytes / the rate of a copy; the product after it is product_bf16.cu's.
#include "base.cuh"
#include "reduce.cuh"

template <class X>
__device__ __forceinline__ void quantise(const X* x, i8* a, f32x2* rows, u32 n, u32 width) {
  const u32 lane = threadIdx.x & 31, row = blockIdx.x * 8 + threadIdx.x / 32;
  if (row >= n) return;
  x += (u64)row * width, a += (u64)row * width;
  const bool whole = (width & 3) == 0;
  // Magnitudes are ordered like their bits, NaN above them all.
  u32 largest = 0;
  if (whole) {
    for (u32 at = lane * 4; at < width; at += 128) {
      const f32x4 v = load4(x + at);
#pragma unroll
      for (int e = 0; e < 4; e++) largest = max(largest, __float_as_uint(v.v[e]) & 0x7fffffffu);
    }
  } else {
    for (u32 at = lane; at < width; at += 32) largest = max(largest, __float_as_uint(to_f32(x[at])) & 0x7fffffffu);
  }
  largest = __reduce_max_sync(FULL_WARP, largest);
  const float peak = __uint_as_float(largest), scale = peak / 127.f;
  const bool finite = largest < 0x7f800000u;
  // A row whose scale would be subnormal counts as zero; one that is not finite has the scale NaN.
  const bool zero = !finite || scale < 1.17549435e-38f;
  const float inverse = zero ? 0.f : 127.f / peak;
  int sum = 0;
  const auto rounded = [&](float v) -> i8 {
    // Added to a number below 2^22, leaves it rounded to an integer, ties to even, in the lowest bits.
    const i8 q = zero ? (i8)0 : (i8)__float_as_uint(__fadd_rn(__fmul_rn(v, inverse), 12582912.f));
    sum += q;
    return q;
  };
  if (whole) {
    for (u32 at = lane * 4; at < width; at += 128) {
      const f32x4 v = load4(x + at);
      u32 four = 0;
#pragma unroll
      for (int e = 0; e < 4; e++) four |= (u32)(u8)rounded(v.v[e]) << 8 * e;
      *reinterpret_cast<u32*>(a + at) = four;
    }
  } else {
    for (u32 at = lane; at < width; at += 32) a[at] = rounded(to_f32(x[at]));
  }
  sum = __reduce_add_sync(FULL_WARP, sum);
  if (lane == 0) rows[row] = {zero ? (finite ? 0.f : __uint_as_float(0x7fffffffu)) : scale, (float)sum};
}

extern "C" __global__ void __launch_bounds__(256)
    quantise_f32(const float* __restrict__ x, i8* __restrict__ a, f32x2* __restrict__ rows, u32 n, u32 width) {
  quantise(x, a, rows, n, width);
}
extern "C" __global__ void __launch_bounds__(256)
    quantise_bf16(const bf16* __restrict__ x, i8* __restrict__ a, f32x2* __restrict__ rows, u32 n, u32 width) {
  quantise(x, a, rows, n, width);
}
