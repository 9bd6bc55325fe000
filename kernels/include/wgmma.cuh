// Matrix products by warpgroups (sm_90a): descriptors of operands in shared memory, and wgmma for every width we use.
#pragma once
#include "hopper.cuh"

// How a tile's 16-byte chunks are permuted within 8 rows, as the copy engine wrote them. The value is the descriptor's.
enum class Swizzle : u32 { None = 0, Bytes128 = 1, Bytes64 = 2, Bytes32 = 3 };

// A descriptor from addresses and distances in bytes: `leading` and `stride` as the two functions below say.
__device__ __forceinline__ u64 shared_descriptor(const void* tile, u32 leading, u32 stride, Swizzle swizzle) {
  return (u64)((shared_address(tile) & 0x3ffff) >> 4) | (u64)((leading & 0x3ffff) >> 4) << 16 |
         (u64)((stride & 0x3ffff) >> 4) << 32 | (u64)swizzle << 62;
}
// Rows of the operand's long side (M or N) with K innermost: a row is 128 bytes (64 elements), eight rows are 1024. The next
// 16 of K are `tile + 16` elements.
__device__ __forceinline__ u64 k_major(const bf16* tile) { return shared_descriptor(tile, 16, 1024, Swizzle::Bytes128); }
// Rows of K with the long side innermost, 64 elements to a row; `leading` is the bytes from one panel of 64 to the next
// (128 times the rows of a panel). The next 16 of K are `tile + 16 * 64` elements.
__device__ __forceinline__ u64 mn_major(const bf16* tile, u32 leading) {
  return shared_descriptor(tile, leading, 1024, Swizzle::Bytes128);
}

#ifndef INTERPRETED
// Before the first product, and again after other code has touched the registers of an operand.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most N of this warp's groups are on their way.
template <int N>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// The operands "%0, .., %n-1" and their registers, in eights.
#define GALATEA_NAMES_32                                                                                      \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28," \
  "%29,%30,%31"
#define GALATEA_NAMES_48 GALATEA_NAMES_32 "," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define GALATEA_NAMES_64 GALATEA_NAMES_48 "," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define GALATEA_NAMES_96 GALATEA_NAMES_64 "," \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91," \
  "%92,%93,%94,%95"
#define GALATEA_NAMES_128 GALATEA_NAMES_96 "," \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118," \
  "%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define GALATEA_REGS_8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define GALATEA_REGS_16(i) GALATEA_REGS_8(i), GALATEA_REGS_8(i + 8)
#define GALATEA_REGS_32(i) GALATEA_REGS_16(i), GALATEA_REGS_16(i + 16)
#define GALATEA_REGS_48(i) GALATEA_REGS_32(i), GALATEA_REGS_16(i + 32)
#define GALATEA_REGS_64(i) GALATEA_REGS_32(i), GALATEA_REGS_32(i + 32)
#define GALATEA_REGS_96(i) GALATEA_REGS_64(i), GALATEA_REGS_32(i + 64)
#define GALATEA_REGS_128(i) GALATEA_REGS_64(i), GALATEA_REGS_64(i + 64)
// r = N / 2 registers of sums; then the operands a, b, accumulate and the transpositions.
#define GALATEA_WGMMA_SHARED(N, r, a, b, p, ta, tb)                                                             \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " p ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N               \
               "k16.f32.bf16.bf16 {" GALATEA_NAMES_##r "}, " a ", " b ", p, 1, 1, " ta ", " tb ";\n}\n"          \
               : GALATEA_REGS_##r(0)                                                                            \
               : "l"(a_tile), "l"(b_tile), "r"(accumulate), "n"(TransA), "n"(TransB))
#define GALATEA_WGMMA_REGISTERS(N, r, a0, a1, a2, a3, b, p, tb)                                                 \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " p ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N               \
               "k16.f32.bf16.bf16 {" GALATEA_NAMES_##r "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " b ", p, 1, 1, " tb \
               ";\n}\n"                                                                                         \
               : GALATEA_REGS_##r(0)                                                                            \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_tile), "r"(accumulate), "n"(TransB))

// d[64,N] = a[64,16] b[N,16]^T, added to what d holds where `accumulate` is not zero; bf16 with f32 sums, started here and
// done after wgmma_wait. Both operands lie in shared memory behind descriptors; TransA, TransB: 1 for mn_major.
// Warp w of the group and lane l hold rows 16 w + l / 4 and + 8; with t = l % 4, d[4j..4j+4] are columns 8j + 2t, + 1 of the
// first row, then of the second.
template <int N, int TransA = 0, int TransB = 0>
__device__ __forceinline__ void wgmma(float (&d)[N / 2], u64 a_tile, u64 b_tile, int accumulate) {
  static_assert(N == 64 || N == 96 || N == 128 || N == 192 || N == 256, "a width that has been written out");
  if constexpr (N == 64) {
    GALATEA_WGMMA_SHARED(64, 32, "%32", "%33", "%34", "%35", "%36");
  } else if constexpr (N == 96) {
    GALATEA_WGMMA_SHARED(96, 48, "%48", "%49", "%50", "%51", "%52");
  } else if constexpr (N == 128) {
    GALATEA_WGMMA_SHARED(128, 64, "%64", "%65", "%66", "%67", "%68");
  } else if constexpr (N == 192) {
    GALATEA_WGMMA_SHARED(192, 96, "%96", "%97", "%98", "%99", "%100");
  } else {
    GALATEA_WGMMA_SHARED(256, 128, "%128", "%129", "%130", "%131", "%132");
  }
}
// The same with A in registers: warp w's rows in the layout of mma_m16n8k16, so that the sums of one product, packed in pairs,
// are the operand of the next.
template <int N, int TransB = 0>
__device__ __forceinline__ void wgmma(float (&d)[N / 2], const u32 (&a)[4], u64 b_tile, int accumulate) {
  static_assert(N == 64 || N == 96 || N == 128 || N == 192 || N == 256, "a width that has been written out");
  if constexpr (N == 64) {
    GALATEA_WGMMA_REGISTERS(64, 32, "%32", "%33", "%34", "%35", "%36", "%37", "%38");
  } else if constexpr (N == 96) {
    GALATEA_WGMMA_REGISTERS(96, 48, "%48", "%49", "%50", "%51", "%52", "%53", "%54");
  } else if constexpr (N == 128) {
    GALATEA_WGMMA_REGISTERS(128, 64, "%64", "%65", "%66", "%67", "%68", "%69", "%70");
  } else if constexpr (N == 192) {
    GALATEA_WGMMA_REGISTERS(192, 96, "%96", "%97", "%98", "%99", "%100", "%101", "%102");
  } else {
    GALATEA_WGMMA_REGISTERS(256, 128, "%128", "%129", "%130", "%131", "%132", "%133", "%134");
  }
}

#undef GALATEA_WGMMA_SHARED
#undef GALATEA_WGMMA_REGISTERS
#endif
