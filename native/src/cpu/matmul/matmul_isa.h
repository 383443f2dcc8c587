#pragma once

#include "guildhall/matmul.h"

// Kernels of each instruction set, defined by matmul_fma.cpp and matmul_dot.cpp under their namespaces.

#define GUILDHALL_DECLARE_MATMUL(isa)           \
  namespace guildhall::isa {                    \
  void matmulF32(const MatmulBlock& block);     \
  void matmulBf16Fma(const MatmulBlock& block); \
  void matmulBf16Dot(const MatmulBlock& block); \
  }

GUILDHALL_DECLARE_MATMUL(scalar)
GUILDHALL_DECLARE_MATMUL(avx2)
GUILDHALL_DECLARE_MATMUL(avx512)

#undef GUILDHALL_DECLARE_MATMUL
