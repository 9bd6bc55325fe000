// Every width of a warpgroup's product and every pattern of a tile, for the interpreter's own tests.
#include "wgmma.cuh"

__device__ __forceinline__ void start(u64* bar) {
  if (threadIdx.x == 0) {
    mbar_init(bar, 1);
    mbar_init_fence();
  }
  __syncthreads();
}
template <int N>
__device__ __forceinline__ void write(const float (&d)[N / 2], float* out) {
  const int lane = threadIdx.x & 31, row = (threadIdx.x >> 5) * 16 + lane / 4;
  for (int i = 0; i < N / 2; i++) out[(row + 8 * (i >> 1 & 1)) * N + (i >> 2) * 8 + 2 * (lane & 3) + (i & 1)] = d[i];
}

// out[64,N] = a[64,64] b[N,64]^T.
template <int N>
__device__ __forceinline__ void widths(const bf16* a, const bf16* b, float* out) {
  float d[N / 2];
  wgmma_fence();
  for (int k = 0; k < 64; k += 16) wgmma<N>(d, k_major(a + k), k_major(b + k), k > 0);
  wgmma_commit();
  wgmma_wait<0>();
  write<N>(d, out);
}
extern "C" __global__ void __launch_bounds__(128)
demo_width(const __grid_constant__ TensorMap ma, const __grid_constant__ TensorMap mb, float* out, int n) {
  DYN_SHARED(bf16, a);
  bf16* b = a + 64 * 64;
  u64* bar = reinterpret_cast<u64*>(b + 256 * 64);
  start(bar);
  if (threadIdx.x == 0) {
    mbar_arrive_expect(bar, (64 + 256) * 128);
    tma_load_3d(a, &ma, bar, 0, 0, 0);
    tma_load_3d(b, &mb, bar, 0, 0, 0);
  }
  mbar_wait(bar, 0);
  switch (n) {
    case 64: widths<64>(a, b, out); break;
    case 96: widths<96>(a, b, out); break;
    case 128: widths<128>(a, b, out); break;
    case 192: widths<192>(a, b, out); break;
    default: widths<256>(a, b, out);
  }
}

// out[64,64] = a[64,16] b[64,16]^T of the second matrix of each tensor, from tiles whose rows are `width` bytes: 128, 64 or
// 32 permuted, or 16 in two panels.
extern "C" __global__ void __launch_bounds__(128)
demo_pattern(const __grid_constant__ TensorMap ma, const __grid_constant__ TensorMap mb, float* out, u32 width) {
  DYN_SHARED(bf16, a);
  bf16* b = a + 64 * 64;
  u64* bar = reinterpret_cast<u64*>(b + 64 * 64);
  start(bar);
  const u32 panel = 64 * width;
  const int panels = width == 16 ? 2 : 1;
  if (threadIdx.x == 0) {
    mbar_arrive_expect(bar, 2 * panels * panel);
    for (int p = 0; p < panels; p++) {
      tma_load_3d(a + p * panel / 2, &ma, bar, 8 * p, 0, 1);
      tma_load_3d(b + p * panel / 2, &mb, bar, 8 * p, 0, 1);
    }
  }
  mbar_wait(bar, 0);
  const Swizzle swizzle = width == 128 ? Swizzle::Bytes128
                          : width == 64 ? Swizzle::Bytes64
                          : width == 32 ? Swizzle::Bytes32
                                        : Swizzle::None;
  float d[32];
  wgmma_fence();
  wgmma<64>(d, shared_descriptor(a, panel, 8 * width, swizzle), shared_descriptor(b, panel, 8 * width, swizzle), 0);
  wgmma_commit();
  wgmma_wait<0>();
  write<64>(d, out);
}

// The bytes of a box of 16 x 4 x 2 floats at (x, y, z), as they lie in shared memory.
extern "C" __global__ void __launch_bounds__(128)
demo_box(const __grid_constant__ TensorMap map, float* out, int x, int y, int z, u32 elements) {
  DYN_SHARED(float, box);
  STATIC_SHARED(u64, bar, 1);
  start(bar);
  if (threadIdx.x == 0) {
    mbar_arrive_expect(bar, elements * 4);
    tma_load_3d(box, &map, bar, x, y, z);
  }
  mbar_wait(bar, 0);
  for (u32 i = threadIdx.x; i < elements; i += blockDim.x) out[i] = box[i];
}
