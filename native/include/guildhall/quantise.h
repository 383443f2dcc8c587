#pragma once

#include <cstdint>
#include <vector>

#include "guildhall/bf16.h"
#include "guildhall/ops/isa.h"
#include "guildhall/parallel.h"
#include "guildhall/tensor.h"
#include "guildhall/weight_format.h"

namespace guildhall {

/** Row quantisers and moves of one instruction set; all give the same bytes. Padding past k is zero, its scales too. */
struct PackKernels {
  /** Scale = largest magnitude / 127 in f16 for each 64 values; `out` is int8 [padded k], scales [padded k / 64]. */
  void (*q8Row)(const float* x, int64_t k, int8_t* out, uint16_t* scales);
  /**
   * Values 0..15 (the weight plus 8) in bytes [padded k], an f16 scale for each 32 of them. The scale is the one of some
   * candidates around largest magnitude / 8 with the smallest squared error.
   */
  void (*q4Row)(const float* x, int64_t k, uint8_t* out, uint16_t* scales);
  /** e4m3 with scale = largest magnitude / 448 for each 128 values. */
  void (*fp8Row)(const float* x, int64_t k, uint8_t* out, float* scales);
  void (*bf16Row)(const float* x, int64_t k, Bf16* out);
  /** out[word][lane] = rows[lane][word] for 16 rows of 32-bit words of any alignment. */
  void (*transposeWords)(const uint8_t* const* rows, int64_t words, uint8_t* out);
};

const PackKernels& packKernels(Isa isa);

/** A tensor in a quantised format, row-major, as a TensorSource of that dtype holds it. */
struct QuantisedTensor {
  std::vector<uint8_t> data;
  /** f16 (q8, q4) or f32 (fp8, one for 128 columns of each row). */
  std::vector<uint8_t> scales;
  int64_t scaleCols = 0;
};

/** Quantises all rows of a checked tensor to kFp8, kQ8 or kQ4. Packing the result gives the bytes of packing the source. */
QuantisedTensor quantise(const TensorSource& source, WeightFormat format, ParallelFor& par);

}  // namespace guildhall
