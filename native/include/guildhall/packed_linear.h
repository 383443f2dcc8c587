#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "guildhall/memory.h"
#include "guildhall/tensor.h"

namespace guildhall {

/** Matmul family; part of the numerics class. See native.ts. */
enum class KernelFamily { kF32Fma, kBf16Fma, kBf16Dot };

/** Outputs that one panel computes side by side. */
constexpr int64_t kPanelCols = 16;

/**
 * A weight [n, k] laid out for the kernels: panels of 16 outputs, K sequential inside, so that one output never
 * crosses vector lanes.
 *   f32:  [ceil(n/16)][k][16]
 *   bf16: [ceil(n/16)][ceil(k/2)][16][2], a zero after an odd k
 * Outputs past n are zero.
 */
class PackedLinear {
 public:
  PackedLinear() = default;

  /**
   * Packs the rows of `parts`, one part after the other. All parts have the same number of columns and have been
   * checked. bf16 families round to nearest even (exact for bf16 sources).
   */
  static PackedLinear pack(const std::vector<TensorSource>& parts, KernelFamily family,
                           std::shared_ptr<MemoryLedger> ledger);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  KernelFamily family() const { return family_; }
  int64_t numPanels() const { return (n_ + kPanelCols - 1) / kPanelCols; }
  int64_t panelBytes() const { return panelBytes(k_, family_); }
  int64_t bytes() const { return data_.bytes(); }
  const uint8_t* panel(int64_t index) const { return data_.as<uint8_t>() + index * panelBytes(); }

  static int64_t panelBytes(int64_t k, KernelFamily family) {
    return family == KernelFamily::kF32Fma ? k * kPanelCols * 4 : (k + 1) / 2 * kPanelCols * 4;
  }
  /** Bytes of a packed [n, k]. */
  static int64_t packedBytes(int64_t n, int64_t k, KernelFamily family) {
    return (n + kPanelCols - 1) / kPanelCols * panelBytes(k, family);
  }

 private:
  int64_t n_ = 0;
  int64_t k_ = 0;
  KernelFamily family_ = KernelFamily::kF32Fma;
  Buffer data_;
};

}  // namespace guildhall
