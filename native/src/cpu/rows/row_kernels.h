#pragma once

#include <cstdint>

#include "guildhall/ops/isa.h"
#include "guildhall/tensor.h"

namespace guildhall {

/** Loops over rows in the row format, at any alignment. All variants give the same bits. */
struct RowKernels {
  /** acc[i] = fma(weight, row[i], acc[i]). */
  void (*addWeighted)(float* acc, const uint8_t* row, RowFormat format, float weight, int64_t n);
  /** out = row rounded to the format. */
  void (*round)(const float* row, uint8_t* out, RowFormat format, int64_t n);
  /** out = row widened. */
  void (*widen)(const uint8_t* row, RowFormat format, float* out, int64_t n);
};

RowKernels rowKernels(Isa isa);

#define GUILDHALL_DECLARE_ROWS(isa)                                                            \
  namespace isa {                                                                              \
  void addWeighted(float* acc, const uint8_t* row, RowFormat format, float weight, int64_t n); \
  void roundRow(const float* row, uint8_t* out, RowFormat format, int64_t n);                  \
  void widenRow(const uint8_t* row, RowFormat format, float* out, int64_t n);                  \
  }

GUILDHALL_DECLARE_ROWS(scalar)
GUILDHALL_DECLARE_ROWS(avx2)
GUILDHALL_DECLARE_ROWS(avx512)

#undef GUILDHALL_DECLARE_ROWS

}  // namespace guildhall
