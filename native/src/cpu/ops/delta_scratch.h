#pragma once

// Size of the scratch of the delta rule: shared by the kernels and the function that callers size it with.

#include <cstdint>

#include "guildhall/ops/batch.h"

namespace guildhall {

/** K transposed (or a slice of S), four chunk x chunk matrices, D and O, and three rows of a chunk. */
static inline __attribute__((always_inline)) int64_t deltaThreadFloats(int64_t keyDim, int64_t valueDim) {
  const int64_t c = kDeltaChunk;
  return keyDim * c + 4 * c * c + 2 * c * ((valueDim + 15) / 16 * 16) + 3 * c;
}

}  // namespace guildhall
