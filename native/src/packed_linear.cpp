#include "guildhall/packed_linear.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "guildhall/bf16.h"

namespace guildhall {

namespace {

/** Columns handled together: sixteen rows of this many columns stay in the L1 cache while they are transposed. */
constexpr int64_t kTile = 256;

void packF32(const float* rows, int64_t k, int64_t lanes, float* panel) {
  for (int64_t base = 0; base < k; base += kTile) {
    const int64_t end = std::min(k, base + kTile);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      for (int64_t c = base; c < end; ++c) panel[c * kPanelCols + lane] = rows[lane * k + c];
    }
  }
}

uint32_t pairOf(Bf16 even, Bf16 odd) { return static_cast<uint32_t>(even) | static_cast<uint32_t>(odd) << 16; }

void packRoundedPairs(const float* rows, int64_t k, int64_t lanes, uint32_t* panel) {
  const int64_t pairs = (k + 1) / 2;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const float* const row = rows + lane * k;
    for (int64_t p = 0; p < pairs; ++p) {
      const Bf16 odd = 2 * p + 1 < k ? floatToBf16(row[2 * p + 1]) : Bf16{0};
      panel[p * kPanelCols + lane] = pairOf(floatToBf16(row[2 * p]), odd);
    }
  }
}

/** A bf16 source without scales: pairs are copied. */
void copyPairs(const uint8_t* const* rows, int64_t k, int64_t lanes, uint32_t* panel) {
  const int64_t whole = k / 2;
  for (int64_t base = 0; base < whole; base += kTile) {
    const int64_t end = std::min(whole, base + kTile);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      for (int64_t p = base; p < end; ++p) std::memcpy(panel + p * kPanelCols + lane, rows[lane] + 4 * p, 4);
    }
  }
  if (k % 2 == 0) return;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    Bf16 last;
    std::memcpy(&last, rows[lane] + 4 * whole, sizeof last);
    panel[whole * kPanelCols + lane] = pairOf(last, 0);
  }
}

struct RowRef {
  const TensorSource* source;
  int64_t row;
};

/** Packs up to sixteen rows. `scratch` holds 16 rows of f32. */
void packPanel(const RowRef* rows, int64_t lanes, int64_t k, KernelFamily family, float* scratch, void* panel) {
  const bool copyable = std::all_of(
      rows, rows + lanes, [](const RowRef& r) { return r.source->dtype == Dtype::kBf16 && !r.source->scale; });
  if (family != KernelFamily::kF32Fma && copyable) {
    const uint8_t* data[kPanelCols];
    for (int64_t lane = 0; lane < lanes; ++lane) data[lane] = rows[lane].source->rowData(rows[lane].row);
    return copyPairs(data, k, lanes, static_cast<uint32_t*>(panel));
  }
  for (int64_t lane = 0; lane < lanes; ++lane) rows[lane].source->readRow(rows[lane].row, scratch + lane * k);
  if (family == KernelFamily::kF32Fma) return packF32(scratch, k, lanes, static_cast<float*>(panel));
  packRoundedPairs(scratch, k, lanes, static_cast<uint32_t*>(panel));
}

}  // namespace

PackedLinear PackedLinear::pack(const std::vector<TensorSource>& parts, KernelFamily family,
                                std::shared_ptr<MemoryLedger> ledger) {
  PackedLinear packed;
  packed.family_ = family;
  packed.k_ = parts.front().cols;
  for (const TensorSource& part : parts) packed.n_ += part.rows();
  packed.data_ = Buffer(packed.numPanels() * packed.panelBytes(), MemoryKind::kWeights, std::move(ledger));

  std::vector<float> scratch(static_cast<size_t>(kPanelCols * packed.k_));
  RowRef rows[kPanelCols];
  int64_t filled = 0;
  int64_t panel = 0;
  const auto flush = [&] {
    if (filled == 0) return;
    packPanel(rows, filled, packed.k_, family, scratch.data(),
              packed.data_.as<uint8_t>() + panel * packed.panelBytes());
    filled = 0;
    ++panel;
  };
  for (const TensorSource& part : parts) {
    for (int64_t r = 0; r < part.rows(); ++r) {
      rows[filled++] = {&part, r};
      if (filled == kPanelCols) flush();
    }
  }
  flush();
  return packed;
}

}  // namespace guildhall
