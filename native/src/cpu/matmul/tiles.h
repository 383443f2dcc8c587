#pragma once

// How a block of rows and panels is cut into register tiles. Shared by the matmul kernels; the cut never changes an
// output's bits, since every output is one chain over ascending k, kept exactly in f32 between slices of k.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "guildhall/matmul.h"

namespace guildhall::GUILDHALL_ISA {

/** Rows of a register tile at most. */
constexpr int kMaxTileRows = 8;

/** One register tile: some rows by some panels over the slice [kBegin, kEnd) of k. */
struct Tile {
  /** Whole input rows. */
  const uint8_t* x[kMaxTileRows];
  /** Whole panels, `panelBytes` apart. */
  const uint8_t* panels;
  int64_t panelBytes;
  /** Inputs of the product; offsets in quantised rows depend on it. */
  int64_t k;
  int64_t kBegin;
  int64_t kEnd;
  float* y;
  int64_t yStride;
  /** Real outputs from the first panel on. */
  int64_t numCols;
  /** How far ahead of its loads a tile prefetches weights, in bytes; 0 where they are in the cache already. */
  int64_t ahead;
};

/** Starts from zero for the first slice of k, from the stored partial sums after that. */
template <typename Lanes>
inline __attribute__((always_inline)) Lanes loadPartial(const Tile& t, int row, int panel) {
  if (t.kBegin == 0) return Lanes::zero();
  return Lanes::loadFirst(t.y + row * t.yStride + panel * kPanelCols, t.numCols - panel * kPanelCols);
}

template <typename Lanes>
inline __attribute__((always_inline)) void storePartial(const Tile& t, int row, int panel, Lanes value) {
  value.storeFirst(t.y + row * t.yStride + panel * kPanelCols, t.numCols - panel * kPanelCols);
}

using TileFn = void (*)(const Tile& tile);

/** Kernel<R, P>::run for R = 1 … kRows (at [R - 1]). */
template <template <int, int> class Kernel, int P, int... R>
constexpr std::array<TileFn, sizeof...(R)> tileColumn(std::integer_sequence<int, R...>) {
  return {Kernel<R + 1, P>::run...};
}

/**
 * Runs a block as tiles. `Shape` gives the `Kernel` (a template over rows and panels of a tile), `kRows` and `kPanels`
 * of a tile that works from the cache, `kStreamRows` up to which a block goes through the weights once, `kStreamPanels`
 * at a time, and `kSlice`, the inputs whose weights for kPanels panels stay in the L1 cache.
 */
template <typename Shape>
class TileRunner {
 public:
  TileRunner(const MatmulBlock& block, KernelFamily family)
      : b_(block),
        panelBytes_(packedPanelBytes(block.k, family)),
        sliceBytes_(packedPanelBytes(Shape::kSlice, family)) {}

  void run() const {
    if (b_.rows <= 0) return;
    if (b_.rows <= Shape::kStreamRows) {
      stream();
      return;
    }
    for (int64_t k = 0; k < b_.k; k += Shape::kSlice) {
      const int64_t end = std::min(b_.k, k + Shape::kSlice);
      for (int64_t p = 0; p < b_.numPanels;) p += slice(k, end, p);
    }
  }

 private:
  static constexpr int kRows = Shape::kRows;
  static constexpr int kPanels = Shape::kPanels;
  static constexpr int kStreamRows = Shape::kStreamRows;
  static constexpr int kStreamPanels = Shape::kStreamPanels;
  static_assert(kRows <= kMaxTileRows && kStreamRows <= kMaxTileRows);

  template <int P>
  static TileFn tileFor(int64_t rows) {
    static constexpr auto kTiles = tileColumn<Shape::template Kernel, P>(std::make_integer_sequence<int, std::max(kRows, kStreamRows)>());
    return kTiles[static_cast<size_t>(rows - 1)];
  }

  Tile tileAt(int64_t rowBegin, int64_t rows, int64_t panel) const {
    Tile t;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = rowBegin + r;
      t.x[r] = b_.input.x + (b_.rowIndex ? b_.rowIndex[row] : row) * b_.input.rowBytes;
    }
    t.panels = b_.panels + panel * panelBytes_;
    t.panelBytes = panelBytes_;
    t.k = b_.k;
    t.kBegin = 0;
    t.kEnd = b_.k;
    t.y = b_.y + rowBegin * b_.yStride + panel * kPanelCols;
    t.yStride = b_.yStride;
    t.numCols = b_.numCols - panel * kPanelCols;
    t.ahead = 0;
    return t;
  }

  /** All rows at once, panel after panel, at the speed of memory. */
  void stream() const {
    int64_t p = 0;
    const auto each = [&](TileFn tile, int64_t panels) {
      for (; p + panels <= b_.numPanels; p += panels) {
        Tile t = tileAt(0, b_.rows, p);
        // A panel alone is one stream; several at once are fetched where the next ones lie.
        t.ahead = panels == 1 ? kStreamAhead : panels * panelBytes_;
        tile(t);
      }
    };
    each(tileFor<kStreamPanels>(b_.rows), kStreamPanels);
    if constexpr (kStreamPanels > 1) each(tileFor<1>(b_.rows), 1);
  }

  /** Rows in groups of nearly equal size against some panels from `panel` on; says how many panels. */
  int64_t slice(int64_t kBegin, int64_t kEnd, int64_t panel) const {
    const bool wide = b_.numPanels - panel >= kPanels;
    const int64_t panels = wide ? kPanels : 1;
    const int64_t groups = (b_.rows + kRows - 1) / kRows;
    const uint8_t* const next = nextSlice(kBegin, kEnd, panel + panels);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = b_.rows * g / groups;
      const int64_t rows = b_.rows * (g + 1) / groups - begin;
      Tile t = tileAt(begin, rows, panel);
      t.kBegin = kBegin;
      t.kEnd = kEnd;
      if (groups <= kFewGroups) {
        t.ahead = g == 0 ? next - (t.panels + kBegin / Shape::kSlice * sliceBytes_) : 0;
      } else {
        fetchShare(next, g, groups);
      }
      (wide ? tileFor<kPanels>(rows) : tileFor<1>(rows))(t);
    }
    return panels;
  }

  /** Where the weights lie that come after those of the panels up to `panel` in this slice. */
  const uint8_t* nextSlice(int64_t kBegin, int64_t kEnd, int64_t panel) const {
    const int64_t slice = kBegin / Shape::kSlice;
    if (panel < b_.numPanels || kEnd == b_.k) return b_.panels + panel * panelBytes_ + slice * sliceBytes_;
    return b_.panels + (slice + 1) * sliceBytes_;
  }

  /**
   * Every group of rows fetches its share of the next weights into the L2 cache: all at once would wait for memory, and the
   * L1 cache holds those in use.
   */
  void fetchShare(const uint8_t* next, int64_t group, int64_t groups) const {
    const int64_t lines = sliceBytes_ / 64;
    for (int64_t p = 0; p < kPanels; ++p) {
      const uint8_t* const base = next + p * panelBytes_;
      for (int64_t line = lines * group / groups; line < lines * (group + 1) / groups; ++line)
        __builtin_prefetch(base + 64 * line, 0, 2);
    }
  }

  static constexpr int64_t kStreamAhead = 4096;
  /** Groups of rows up to which the first one fetches all of the next weights, between its own loads. */
  static constexpr int64_t kFewGroups = 4;

  const MatmulBlock& b_;
  int64_t panelBytes_;
  /** Of one panel. */
  int64_t sliceBytes_;
};

}  // namespace guildhall::GUILDHALL_ISA
