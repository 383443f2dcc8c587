#pragma once

// How a block of rows and panels is cut into register tiles. Shared by the matmul kernels; the cut never changes an
// output's bits, since every output is one chain of multiply-adds over ascending k, kept exactly in f32 between
// slices of k.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "guildhall/matmul.h"

namespace guildhall::GUILDHALL_ISA {

/** One register tile: some rows by some panels over a slice of k. Pointers are at the slice's beginning. */
struct Tile {
  const void* x;
  int64_t xStride;
  const void* panels;
  /** Elements (f32, or bf16 as u16) from one panel to the next. */
  int64_t panelStride;
  /** Length of the slice; even unless it is the last one. */
  int64_t k;
  /** Whether sums start here, or go on from those in y. */
  bool first;
  float* y;
  int64_t yStride;
  /** Real outputs from the first panel on. */
  int64_t numCols;
};

/** Starts from zero for the first slice of k, from the stored partial sums after that. */
template <typename Lanes>
inline Lanes loadPartial(const Tile& t, int row, int panel) {
  if (t.first) return Lanes::zero();
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

/** Slice of k for blocks of more rows than one tile: what a chunk of panels and a group of rows take of it stays
 * cached. */
constexpr int64_t kSlice = 1024;
/** Panels whose slice stays in the L2 cache while the rows pass. */
constexpr int64_t kChunkPanels = 8;
/** Rows of a copied slice are this far apart, so that they don't fall on the same cache sets. */
constexpr int64_t kCopyStride = kSlice + 32;

/**
 * Runs a block as tiles. `Shape` gives `Element` and `Weight` (types of x and of the panels), `kMaxRows` of a tile, how
 * many panels go with some rows (`panels(rows)`, a power of two) and the tile function for both (`tile(rows, panels)`).
 */
template <typename Shape>
class TileRunner {
 public:
  TileRunner(const MatmulBlock& block, int64_t panelStride) : b_(block), panelStride_(panelStride) {}

  void run() const {
    if (b_.rows <= 0) return;
    if (b_.rows <= Shape::kMaxRows) {
      return runRows(0, b_.rows, static_cast<const Element*>(b_.x), b_.xStride, 0, b_.k, 0, b_.numPanels);
    }
    for (int64_t k = 0; k < b_.k; k += kSlice) {
      for (int64_t p = 0; p < b_.numPanels; p += kChunkPanels) {
        runChunk(k, std::min(b_.k, k + kSlice), p, std::min(b_.numPanels, p + kChunkPanels));
      }
    }
  }

 private:
  using Element = typename Shape::Element;
  using Weight = typename Shape::Weight;

  /** All rows, in groups of nearly equal size, each copied close together first. */
  void runChunk(int64_t kBegin, int64_t kEnd, int64_t panelBegin, int64_t panelEnd) const {
    alignas(64) Element copy[Shape::kMaxRows * kCopyStride];
    const int64_t groups = (b_.rows + Shape::kMaxRows - 1) / Shape::kMaxRows;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t rowBegin = b_.rows * g / groups;
      const int64_t rows = b_.rows * (g + 1) / groups - rowBegin;
      // An odd k has a zero after it in rows of bf16 pairs.
      const int64_t count = std::min(kEnd - kBegin + (kEnd - kBegin) % 2, b_.xStride - kBegin);
      for (int64_t r = 0; r < rows; ++r) {
        const Element* const row = static_cast<const Element*>(b_.x) + (rowBegin + r) * b_.xStride + kBegin;
        std::memcpy(copy + r * kCopyStride, row, static_cast<size_t>(count) * sizeof(Element));
      }
      runRows(rowBegin, rows, copy, kCopyStride, kBegin, kEnd, panelBegin, panelEnd);
    }
  }

  /** One group of rows against panels [panelBegin, panelEnd). */
  void runRows(int64_t rowBegin, int64_t rows, const Element* x, int64_t xStride, int64_t kBegin, int64_t kEnd,
               int64_t panelBegin, int64_t panelEnd) const {
    int64_t width = Shape::panels(rows);
    for (int64_t p = panelBegin; p < panelEnd; p += width) {
      while (width > panelEnd - p) width /= 2;
      const Tile tile{x,
                      xStride,
                      static_cast<const Weight*>(b_.panels) + p * panelStride_ + kBegin * kPanelCols,
                      panelStride_,
                      kEnd - kBegin,
                      kBegin == 0,
                      b_.y + rowBegin * b_.yStride + p * kPanelCols,
                      b_.yStride,
                      b_.numCols - p * kPanelCols};
      Shape::tile(rows, width)(tile);
    }
  }

  const MatmulBlock& b_;
  /** In weights. */
  int64_t panelStride_;
};

}  // namespace guildhall::GUILDHALL_ISA
