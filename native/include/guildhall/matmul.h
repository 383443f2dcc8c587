#pragma once

#include <cstdint>
#include <vector>

#include "guildhall/arena.h"
#include "guildhall/ops/isa.h"
#include "guildhall/packed_linear.h"
#include "guildhall/parallel.h"

namespace guildhall {

/**
 * y[m][n] = sum_k x[m][k] * w[n][k] for `rows` rows and the outputs of `numPanels` panels, of which `numCols` are
 * real. f32 accumulators start at zero and take k in ascending order by fused multiply-adds, so an output's bits do
 * not depend on rows, panels or blocks. `y` is overwritten; lanes past numCols are not touched.
 *
 * `x` is f32 for the fma families. For bf16-dot it is bf16 with an even number of columns (a zero after an odd K) and
 * strides in elements of that type.
 */
struct MatmulBlock {
  const void* x = nullptr;
  int64_t xStride = 0;
  int64_t rows = 0;
  const void* panels = nullptr;
  int64_t numPanels = 0;
  int64_t k = 0;
  float* y = nullptr;
  int64_t yStride = 0;
  int64_t numCols = 0;
};

using MatmulFn = void (*)(const MatmulBlock& block);

/** Kernels of one instruction set; bf16Dot is null where the processor lacks it. */
struct MatmulKernels {
  MatmulFn f32 = nullptr;
  MatmulFn bf16Fma = nullptr;
  MatmulFn bf16Dot = nullptr;

  MatmulFn of(KernelFamily family) const;
};

/** Kernels for a supported instruction set. */
MatmulKernels matmulKernels(Isa isa);

/** Whether this processor and build have the pairwise bf16 dot instruction. */
bool bf16DotSupported();

/** Rows in the form that a family's kernel reads. */
struct MatmulInput {
  const void* x = nullptr;
  int64_t stride = 0;
};

/** Rounds f32 rows to bf16 in the arena for bf16-dot; the other families read the rows as they are. */
MatmulInput prepareInput(KernelFamily family, const float* x, int64_t stride, int64_t rows, int64_t k, Arena& arena,
                         ParallelFor& par);

/** One product of a group: y = input * weight^T with y of weight->n columns. */
struct MatmulJob {
  const PackedLinear* weight = nullptr;
  MatmulInput input;
  int64_t rows = 0;
  float* y = nullptr;
  int64_t yStride = 0;
};

/** Runs all jobs as one parallel region. */
void matmul(const MatmulKernels& kernels, ParallelFor& par, const std::vector<MatmulJob>& jobs);

}  // namespace guildhall
