// ampere.cuh in C++: the same names, layouts and obligations.
#pragma once

namespace interpreter {
u32 shared_offset(const void* p, Place);
void copy_async(void* dst, const void* src, u32 bytes, bool in, Place);
void copy_commit();
void copy_wait(u32 keep, Place);
// `count` matrices of 8x8 16-bit elements, as the addresses of the lanes say; r has `count` words.
void load_matrix(u32* r, u32 count, const void* row, bool transposed, Place);
void multiply_bf16(float* d, const u32* a, u32 b0, u32 b1, Place);
void multiply_s8(int* d, const u32* a, u32 b0, u32 b1, Place);
}  // namespace interpreter

inline u32 shared_address(const void* p, INTERPRETER_HERE) { return interpreter::shared_offset(p, INTERPRETER_PLACE); }
inline void cp_async16(void* dst, const void* src, bool in, INTERPRETER_HERE) {
  interpreter::copy_async(dst, src, 16, in, INTERPRETER_PLACE);
}
inline void cp_async4(void* dst, const void* src, bool in, INTERPRETER_HERE) {
  interpreter::copy_async(dst, src, 4, in, INTERPRETER_PLACE);
}
inline void cp_commit() { interpreter::copy_commit(); }
template <int N>
void cp_wait(INTERPRETER_HERE) {
  interpreter::copy_wait(N, INTERPRETER_PLACE);
}
inline void ldmatrix_x4(u32 (&r)[4], const void* row, INTERPRETER_HERE) {
  interpreter::load_matrix(r, 4, row, false, INTERPRETER_PLACE);
}
inline void ldmatrix_x4_trans(u32 (&r)[4], const void* row, INTERPRETER_HERE) {
  interpreter::load_matrix(r, 4, row, true, INTERPRETER_PLACE);
}
inline void ldmatrix_x2(u32 (&r)[2], const void* row, INTERPRETER_HERE) {
  interpreter::load_matrix(r, 2, row, false, INTERPRETER_PLACE);
}
inline void ldmatrix_x2_trans(u32 (&r)[2], const void* row, INTERPRETER_HERE) {
  interpreter::load_matrix(r, 2, row, true, INTERPRETER_PLACE);
}
inline void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, INTERPRETER_HERE) {
  interpreter::multiply_bf16(d, a, b0, b1, INTERPRETER_PLACE);
}
inline void mma_m16n8k32_s8(int (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, INTERPRETER_HERE) {
  interpreter::multiply_s8(d, a, b0, b1, INTERPRETER_PLACE);
}
