#pragma once

#include <cstdint>

#include "guildhall/parallel.h"

namespace guildhall {

/**
 * Cosines and sines of interleaved mRoPE. angle(t, j) = float(positions[freqAxis[j]][t]) * invFreq[j], one f32 product as in
 * the reference; cos and sin of that f32 angle are correctly rounded to within an ulp at any magnitude, then multiplied
 * by `scale` (YaRN; 1 without).
 */
struct RopeTableArgs {
  /** [3][axisStride]: temporal, height, width. */
  const int32_t* positions = nullptr;
  int64_t axisStride = 0;
  const float* invFreq = nullptr;
  /** [half]: 0 temporal, 1 height, 2 width. */
  const int32_t* freqAxis = nullptr;
  /** rotaryDim / 2. */
  int64_t half = 0;
  float scale = 1.0f;
  int64_t rows = 0;
  /** [rows][half] each. */
  float* cos = nullptr;
  float* sin = nullptr;
};

/** Fills the table. Independent of the instruction set. */
void ropeTable(ParallelFor& par, const RopeTableArgs& args);

/**
 * NeoX rotate_half in place on the leading 2 * half dimensions of every head of [rows][heads][...]:
 *   (a, b) = (x[j], x[j + half]) -> (a cos - b sin, b cos + a sin).
 */
struct RopeArgs {
  float* x = nullptr;
  int64_t rowStride = 0;
  int64_t headStride = 0;
  int64_t rows = 0;
  int64_t heads = 1;
  int64_t half = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
};

}  // namespace guildhall
