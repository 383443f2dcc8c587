#pragma once

// How a block of rows and panels is cut into register tiles. Shared by the matmul kernels; the cut never changes an
// output's bits, since every output is one chain of multiply-adds over ascending k, kept exactly in f32 between
// slices of k.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "guildhall/matmul.h"

namespace guildhall::GUILDHALL_ISA {

/** One register tile: `R` rows by `P` panels over a slice of k. */
struct Tile {
  const void* x;
  int64_t xStride;
  const void* panels;
  /** Elements (f32, or bf16 pairs as u16) from one panel to the next. */
  int64_t panelStride;
  int64_t kBegin;
  int64_t kEnd;
  float* y;
  int64_t yStride;
  /** Real outputs from the first panel on. */
  int64_t numCols;
};

/** Starts from zero for the first slice of k, from the stored partial sums after that. */
template <typename Lanes>
inline Lanes loadPartial(const Tile& t, int row, int panel) {
  if (t.kBegin == 0) return Lanes::zero();
  const float* const y = t.y + row * t.yStride + panel * kPanelCols;
  const int64_t cols = t.numCols - panel * kPanelCols;
  if (cols >= kPanelCols) return Lanes::load(y);
  float edge[kPanelCols] = {};
  std::memcpy(edge, y, static_cast<size_t>(cols) * sizeof(float));
  return Lanes::load(edge);
}

template <typename Lanes>
inline void storePartial(const Tile& t, int row, int panel, Lanes value) {
  float* const y = t.y + row * t.yStride + panel * kPanelCols;
  const int64_t cols = t.numCols - panel * kPanelCols;
  if (cols >= kPanelCols) return value.store(y);
  float edge[kPanelCols];
  value.store(edge);
  std::memcpy(y, edge, static_cast<size_t>(cols) * sizeof(float));
}

using TileFn = void (*)(const Tile& tile);

/** Slice of k for blocks of more rows than one tile: a group of panels stays in the L2 cache across its rows. */
constexpr int64_t kSlice = 1024;

/**
 * Runs a block as tiles. `Shape` says how many rows a tile may have (`kMaxRows`), how many panels go with R rows
 * (`panels(rows)`, a power of two) and gives the tile function for both (`tile(rows, panels)`).
 * `xBytes` is the size of an element of x, `wStride` the u16 or f32 elements of a panel, `wBytes` their size.
 */
template <typename Shape>
void runTiles(const MatmulBlock& b, int64_t xBytes, int64_t panelStride, int64_t wBytes) {
  if (b.rows <= 0) return;
  const int64_t groups = (b.rows + Shape::kMaxRows - 1) / Shape::kMaxRows;
  const int64_t slice = groups == 1 ? std::max<int64_t>(b.k, 1) : kSlice;
  const int64_t panelStep = Shape::panels((b.rows + groups - 1) / groups);
  for (int64_t k = 0; k < b.k; k += slice) {
    for (int64_t p = 0; p < b.numPanels; p += panelStep) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t rowBegin = b.rows * g / groups;
        const int64_t rows = b.rows * (g + 1) / groups - rowBegin;
        int64_t left = std::min(panelStep, b.numPanels - p);
        for (int64_t q = p; left > 0;) {
          int64_t width = panelStep;
          while (width > left) width /= 2;
          const Tile tile{static_cast<const char*>(b.x) + rowBegin * b.xStride * xBytes,
                          b.xStride,
                          static_cast<const char*>(b.panels) + q * panelStride * wBytes,
                          panelStride,
                          k,
                          std::min(b.k, k + slice),
                          b.y + rowBegin * b.yStride + q * kPanelCols,
                          b.yStride,
                          b.numCols - q * kPanelCols};
          Shape::tile(rows, width)(tile);
          q += width;
          left -= width;
        }
      }
    }
  }
}

}  // namespace guildhall::GUILDHALL_ISA
