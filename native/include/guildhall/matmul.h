#pragma once

#include <cstdint>
#include <vector>

#include "guildhall/arena.h"
#include "guildhall/ops/isa.h"
#include "guildhall/packed_linear.h"
#include "guildhall/parallel.h"

namespace guildhall {

/** Rows in the form that a family's kernels read: records of `rowBytes` (inputRowBytes) or, for f32 rows, wider. */
struct MatmulInput {
  const uint8_t* x = nullptr;
  int64_t rowBytes = 0;

  /** The rows from `row` on. */
  MatmulInput from(int64_t row) const { return {x + row * rowBytes, rowBytes}; }
};

/**
 * y[m][n] = sum_k x[m][k] * w[n][k] for `rows` rows and the outputs of `numPanels` panels, of which `numCols` are
 * real. An output is one chain of f32 additions over ascending k (pairs or groups of k for the dot families) that starts
 * at zero, so its bits do not depend on rows, panels or slices. `y` is overwritten; lanes past numCols are not touched.
 */
struct MatmulBlock {
  MatmulInput input;
  /** Input row of each output row; null for the identity. */
  const int32_t* rowIndex = nullptr;
  int64_t rows = 0;
  const uint8_t* panels = nullptr;
  int64_t numPanels = 0;
  int64_t k = 0;
  float* y = nullptr;
  int64_t yStride = 0;
  int64_t numCols = 0;
};

using MatmulFn = void (*)(const MatmulBlock& block);
/** One f32 row of k values into a record of inputRowBytes(family, k) bytes. */
using PrepareRowFn = void (*)(const float* x, int64_t k, uint8_t* out);

/** Kernels of one instruction set; an entry is null where the processor lacks what a family needs. */
struct MatmulKernels {
  MatmulFn kernels[kNumKernelFamilies] = {};
  PrepareRowFn prepare[kNumKernelFamilies] = {};

  MatmulFn of(KernelFamily family) const { return kernels[static_cast<int>(family)]; }
  PrepareRowFn prepareRow(KernelFamily family) const { return prepare[static_cast<int>(family)]; }
};

/** Kernels for a supported instruction set. */
const MatmulKernels& matmulKernels(Isa isa);

/** Whether this processor and build have the pairwise bf16 dot instruction, and with it bf16-dot and fp8-dot. */
bool bf16DotSupported();

/** Whether a family's kernels read f32 rows as they are. */
constexpr bool readsF32Rows(KernelFamily family) {
  return family == KernelFamily::kF32Fma || family == KernelFamily::kBf16Fma;
}

/** f32 rows, `stride` floats apart, in the form of the family: as they are, or converted into the arena. */
MatmulInput prepareInput(const MatmulKernels& kernels, KernelFamily family, const float* x, int64_t stride,
                         int64_t rows, int64_t k, Arena& arena, ParallelFor& par);

/** One product of a group: y = input * weight^T with y of weight->n columns. */
struct MatmulJob {
  const PackedLinear* weight = nullptr;
  MatmulInput input;
  int64_t rows = 0;
  float* y = nullptr;
  int64_t yStride = 0;
  /** Input row of each output row; null for the identity. */
  const int32_t* rowIndex = nullptr;
};

/** Runs all jobs as one parallel region. */
void matmul(const MatmulKernels& kernels, ParallelFor& par, const std::vector<MatmulJob>& jobs);

}  // namespace guildhall
