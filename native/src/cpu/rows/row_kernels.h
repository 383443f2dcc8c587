#pragma once

#include <cstdint>

#include "guildhall/ops/isa.h"
#include "guildhall/tensor.h"

namespace guildhall {

/** One token of a mixture: hidden += sum over e, in order, of weights[e] * rows[e], then + factor * shared. */
struct CombineRowArgs {
  float* hidden = nullptr;
  /** f32 outputs of `count` experts, each rounded to `format` before it is weighted. */
  const float* const* rows = nullptr;
  const float* weights = nullptr;
  int64_t count = 0;
  RowFormat format = RowFormat::kF32;
  /** f32; null without a shared expert. */
  const float* shared = nullptr;
  float factor = 0.0f;
  int64_t n = 0;
};

/** Loops over rows in the row format, at any alignment. All variants give the same bits. */
struct RowKernels {
  /** acc[i] = fma(weight, row[i], acc[i]). */
  void (*addWeighted)(float* acc, const uint8_t* row, RowFormat format, float weight, int64_t n);
  /** out = row rounded to the format. */
  void (*round)(const float* row, uint8_t* out, RowFormat format, int64_t n);
  /** out = row widened. */
  void (*widen)(const uint8_t* row, RowFormat format, float* out, int64_t n);
  /** The sum starts at zero and takes each expert by one fma; then hidden + (sum + factor * shared). */
  void (*combine)(const CombineRowArgs& args);
};

RowKernels rowKernels(Isa isa);

#define GUILDHALL_DECLARE_ROWS(isa)                                                            \
  namespace isa {                                                                              \
  void addWeighted(float* acc, const uint8_t* row, RowFormat format, float weight, int64_t n); \
  void roundRow(const float* row, uint8_t* out, RowFormat format, int64_t n);                  \
  void widenRow(const uint8_t* row, RowFormat format, float* out, int64_t n);                  \
  void combineRow(const CombineRowArgs& args);                                                 \
  }

GUILDHALL_DECLARE_ROWS(scalar)
GUILDHALL_DECLARE_ROWS(avx2)
GUILDHALL_DECLARE_ROWS(avx512)

#undef GUILDHALL_DECLARE_ROWS

}  // namespace guildhall
