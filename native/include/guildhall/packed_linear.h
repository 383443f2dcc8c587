#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "guildhall/memory.h"
#include "guildhall/parallel.h"
#include "guildhall/tensor.h"
#include "guildhall/weight_format.h"

namespace guildhall {

/**
 * A weight [n, k] laid out for the kernels: panels of 16 outputs, K sequential inside, so that one output never
 * crosses vector lanes.
 *   f32:  [ceil(n/16)][k][16]
 *   bf16: [ceil(n/16)][ceil(k/2)][16][2], a zero after an odd k
 *   fp8, q8, q4: [ceil(n/16)][ceil(k/128)] blocks, see weight_format.h
 * Outputs past n are zero.
 */
class PackedLinear {
 public:
  PackedLinear() = default;

  /**
   * Packs the rows of `parts`, one part after the other. All parts have the same number of columns and have been
   * checked. bf16 families round to nearest even (exact for bf16 sources); quantised families take sources of their own
   * format as they are and quantise others row by row. `par` spreads the panels over threads; null packs on the caller's.
   */
  static PackedLinear pack(const std::vector<TensorSource>& parts, KernelFamily family,
                           std::shared_ptr<MemoryLedger> ledger, ParallelFor* par = nullptr);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  KernelFamily family() const { return family_; }
  int64_t numPanels() const { return (n_ + kPanelCols - 1) / kPanelCols; }
  int64_t panelBytes() const { return packedPanelBytes(k_, family_); }
  int64_t bytes() const { return data_.bytes(); }
  const uint8_t* panel(int64_t index) const { return data_.as<uint8_t>() + index * panelBytes(); }

  /** Bytes of a packed [n, k]. */
  static int64_t packedBytes(int64_t n, int64_t k, KernelFamily family) {
    return (n + kPanelCols - 1) / kPanelCols * packedPanelBytes(k, family);
  }

 private:
  int64_t n_ = 0;
  int64_t k_ = 0;
  KernelFamily family_ = KernelFamily::kF32Fma;
  Buffer data_;
};

}  // namespace guildhall
