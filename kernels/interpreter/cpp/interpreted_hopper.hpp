// hopper.cuh and wgmma.cuh in C++: the same names, layouts and obligations.
#pragma once

namespace interpreter {
void barrier_init(u64* bar, u32 count, Place);
void barrier_init_fence();
void barrier_arrive(u64* bar, u32 bytes, Place);
void barrier_wait(u64* bar, u32 parity, Place);
void fence_async();
void tensor_load(void* dst, const void* map, u64* bar, int x, int y, int z, Place);
void tensor_store(const void* map, const void* src, int x, int y, int z, bool add, Place);
void tensor_commit();
void tensor_wait(u32 keep, Place);
void store_matrix(void* row, const u32* r, bool transposed, Place);
void wgmma_fence(Place);
void wgmma_commit(Place);
void wgmma_wait(u32 keep, Place);
void wgmma_shared(float* d, u32 n, u64 a, u64 b, bool accumulate, bool trans_a, bool trans_b, Place);
void wgmma_registers(float* d, u32 n, const u32* a, u64 b, bool accumulate, bool trans_b, Place);
}  // namespace interpreter

inline void mbar_init(u64* bar, u32 count, INTERPRETER_HERE) {
  interpreter::barrier_init(bar, count, INTERPRETER_PLACE);
}
inline void mbar_init_fence() { interpreter::barrier_init_fence(); }
inline void mbar_arrive(u64* bar, INTERPRETER_HERE) { interpreter::barrier_arrive(bar, 0, INTERPRETER_PLACE); }
inline void mbar_arrive_expect(u64* bar, u32 bytes, INTERPRETER_HERE) {
  interpreter::barrier_arrive(bar, bytes, INTERPRETER_PLACE);
}
inline void mbar_wait(u64* bar, u32 parity, INTERPRETER_HERE) {
  interpreter::barrier_wait(bar, parity, INTERPRETER_PLACE);
}
inline void fence_async() { interpreter::fence_async(); }
template <class Map>
void tma_load_3d(void* dst, const Map* map, u64* bar, int x, int y, int z, INTERPRETER_HERE) {
  interpreter::tensor_load(dst, map, bar, x, y, z, INTERPRETER_PLACE);
}
template <class Map>
void tma_store_3d(const Map* map, const void* src, int x, int y, int z, INTERPRETER_HERE) {
  interpreter::tensor_store(map, src, x, y, z, false, INTERPRETER_PLACE);
}
template <class Map>
void tma_add_3d(const Map* map, const void* src, int x, int y, int z, INTERPRETER_HERE) {
  interpreter::tensor_store(map, src, x, y, z, true, INTERPRETER_PLACE);
}
inline void tma_commit() { interpreter::tensor_commit(); }
template <int N>
void tma_wait_read(INTERPRETER_HERE) {
  interpreter::tensor_wait(N, INTERPRETER_PLACE);
}
template <int N>
void tma_wait(INTERPRETER_HERE) {
  interpreter::tensor_wait(N, INTERPRETER_PLACE);
}
template <class Map>
void tma_prefetch(const Map*) {}
template <int N>
void regs_shrink() {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256, "setmaxnreg takes a multiple of 8 from 24 to 256");
}
template <int N>
void regs_grow() {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256, "setmaxnreg takes a multiple of 8 from 24 to 256");
}
inline void stmatrix_x4(void* row, const u32 (&r)[4], INTERPRETER_HERE) {
  interpreter::store_matrix(row, r, false, INTERPRETER_PLACE);
}
inline void stmatrix_x4_trans(void* row, const u32 (&r)[4], INTERPRETER_HERE) {
  interpreter::store_matrix(row, r, true, INTERPRETER_PLACE);
}
inline void wgmma_fence(INTERPRETER_HERE) { interpreter::wgmma_fence(INTERPRETER_PLACE); }
inline void wgmma_commit(INTERPRETER_HERE) { interpreter::wgmma_commit(INTERPRETER_PLACE); }
template <int N>
void wgmma_wait(INTERPRETER_HERE) {
  interpreter::wgmma_wait(N, INTERPRETER_PLACE);
}
template <int N, int TransA = 0, int TransB = 0>
void wgmma(float (&d)[N / 2], u64 a, u64 b, int accumulate, INTERPRETER_HERE) {
  static_assert(N == 64 || N == 96 || N == 128 || N == 192 || N == 256, "a width that has been written out");
  interpreter::wgmma_shared(d, N, a, b, accumulate != 0, TransA != 0, TransB != 0, INTERPRETER_PLACE);
}
template <int N, int TransB = 0>
void wgmma(float (&d)[N / 2], const u32 (&a)[4], u64 b, int accumulate, INTERPRETER_HERE) {
  static_assert(N == 64 || N == 96 || N == 128 || N == 192 || N == 256, "a width that has been written out");
  interpreter::wgmma_registers(d, N, a, b, accumulate != 0, TransB != 0, INTERPRETER_PLACE);
}
