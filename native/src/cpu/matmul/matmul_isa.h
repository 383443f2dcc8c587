#pragma once

#include "guildhall/matmul.h"

// Kernels of each instruction set, defined under their namespaces: the fma families in matmul_fma.cpp, the int8 families
// in matmul_int8.cpp and, with VNNI, matmul_vnni.cpp, the bf16 dot families in matmul_dot.cpp and matmul_fp8_dot.cpp,
// the forms of rows in prepare_rows.cpp.

#define GUILDHALL_DECLARE_MATMUL(isa)                                      \
  namespace guildhall::isa {                                               \
  void matmulF32(const MatmulBlock& block);                                \
  void matmulBf16Fma(const MatmulBlock& block);                            \
  void matmulFp8Fma(const MatmulBlock& block);                             \
  void matmulQ8(const MatmulBlock& block);                                 \
  void matmulQ4(const MatmulBlock& block);                                 \
  void prepareF32Row(const float* x, int64_t k, uint8_t* out);             \
  void preparePaddedF32Row(const float* x, int64_t k, uint8_t* out);       \
  void prepareBf16Row(const float* x, int64_t k, uint8_t* out);            \
  void preparePaddedBf16Row(const float* x, int64_t k, uint8_t* out);      \
  void prepareQ8Row(const float* x, int64_t k, uint8_t* out);              \
  void prepareQ4Row(const float* x, int64_t k, uint8_t* out);              \
  }

GUILDHALL_DECLARE_MATMUL(scalar)
GUILDHALL_DECLARE_MATMUL(avx2)
GUILDHALL_DECLARE_MATMUL(avx512)

#undef GUILDHALL_DECLARE_MATMUL

namespace guildhall::avx512 {
void matmulBf16Dot(const MatmulBlock& block);
void matmulFp8Dot(const MatmulBlock& block);
void matmulQ8Vnni(const MatmulBlock& block);
void matmulQ4Vnni(const MatmulBlock& block);
}  // namespace guildhall::avx512
