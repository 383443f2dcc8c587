#pragma once

#include <cstdint>

#include "guildhall/bf16.h"

namespace guildhall {

/**
 * out[r][c] = silu(gate[r][c]) * up[r][c] over [rows][cols]; silu(x) = x / (1 + exp(-x)). `out` may be `gate` or `up`.
 * Strides count floats, from row to row.
 */
struct SiluMulArgs {
  const float* gate = nullptr;
  int64_t gateStride = 0;
  const float* up = nullptr;
  int64_t upStride = 0;
  float* out = nullptr;
  int64_t outStride = 0;
  int64_t rows = 0;
  int64_t cols = 0;
};

/** How the addend of `addRows` is scaled. */
enum class RowScale : int { None = 0, Plain = 1, Sigmoid = 2 };

/**
 * y[r][c] += s(r) * x[r][c], s(r) = 1, scale[r * scaleStride] or sigmoid(scale[r * scaleStride]). One fma per element
 * (plain addition for None). `y` may not overlap `x` unless they are equal.
 */
struct AddRowsArgs {
  float* y = nullptr;
  int64_t yStride = 0;
  const float* x = nullptr;
  int64_t xStride = 0;
  RowScale kind = RowScale::None;
  const float* scale = nullptr;
  int64_t scaleStride = 1;
  int64_t rows = 0;
  int64_t cols = 0;
};

/** x[r][c] *= sigmoid(gate[r][c]); both strided [rows][heads][dim]. The output gate of gated attention. */
struct GateMulArgs {
  float* x = nullptr;
  int64_t xRowStride = 0;
  int64_t xHeadStride = 0;
  const float* gate = nullptr;
  int64_t gateRowStride = 0;
  int64_t gateHeadStride = 0;
  int64_t rows = 0;
  int64_t heads = 1;
  int64_t dim = 0;
};

}  // namespace guildhall
