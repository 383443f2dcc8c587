#pragma once

#include <cstdint>

#include "guildhall/bf16.h"

namespace guildhall {

/**
 * RMS norm over the last axis of [rows][heads][dim]:
 *   out = x / sqrt(mean(x^2) + eps) * w, or * (1 + w) when zeroCentered (Qwen3.5's input, post-attention, final, q and k norms).
 * In place when out == x with the same strides. Strides count floats; a plain [rows][dim] has heads = 1.
 */
struct RmsNormArgs {
  const float* x = nullptr;
  int64_t xRowStride = 0;
  int64_t xHeadStride = 0;
  const float* weight = nullptr;
  float eps = 1e-6f;
  bool zeroCentered = false;
  float* out = nullptr;
  int64_t outRowStride = 0;
  int64_t outHeadStride = 0;
  int64_t rows = 0;
  int64_t heads = 1;
  int64_t dim = 0;
};

}  // namespace guildhall
