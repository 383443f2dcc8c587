#pragma once

// Size of the scratch of the delta rule: shared by the kernels and the function that callers size it with.

#include <cstdint>

#include "guildhall/ops/batch.h"

namespace guildhall {

/** K transposed, two chunk x chunk matrices, D, and three rows of a chunk. */
static inline __attribute__((always_inline)) int64_t deltaThreadFloats(int64_t keyDim, int64_t valueDim) {
  const int64_t c = kDeltaChunk;
  return keyDim * c + 2 * c * c + c * ((valueDim + 15) / 16 * 16) + 4 * c;
}

}  // namespace guildhall
