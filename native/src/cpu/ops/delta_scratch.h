#pragma once

// One thread's scratch of the delta net: shared by the kernels and the function that callers size it with.

#include <cstdint>

#include "guildhall/ops/gated_delta_net.h"

namespace guildhall {

/** Columns of the widest panel of any instruction set; panels of value columns lie one after another. */
constexpr int64_t kWidestPanel = 32;

/** Sizes in floats, each a multiple of 16. */
struct DeltaSizes {
  int64_t keyRow, keys, values, square, rowFloats, headState, state;

  explicit __attribute__((always_inline)) DeltaSizes(const DeltaNetShape& shape)
      : keyRow((shape.keyDim + 15) / 16 * 16),
        keys(keyRow * kDeltaChunk),
        values((shape.valueDim + kWidestPanel - 1) / kWidestPanel * kWidestPanel * kDeltaChunk),
        square(int64_t{kDeltaChunk} * kDeltaChunk),
        rowFloats(kDeltaChunk),
        headState(values / kDeltaChunk * keyRow),
        state(headState * shape.valueHeadsPerKeyHead()) {}

  /** With room to align the first array to a cache line. */
  __attribute__((always_inline)) int64_t threadFloats() const {
    return 3 * keys + 4 * square + 2 * values + kDeltaChunk * kWidestPanel + 5 * rowFloats + state + 16;
  }
};

}  // namespace guildhall
