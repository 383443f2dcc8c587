// Matmul of the fma families: y[m][n] is one chain acc = fma(x[m][k], w[n][k], acc) over ascending k, on every
// instruction set. Outputs lie across the lanes, so that no lane is ever reduced.

#include "lanes.h"
#include "matmul_isa.h"
#include "tiles.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

#if defined(GUILDHALL_ISA_AVX512)
constexpr int kRowLimit = 6;
constexpr int64_t panelsFor(int64_t rows) { return rows == 1 ? 8 : 4; }
#elif defined(GUILDHALL_ISA_AVX2)
constexpr int kRowLimit = 6;
constexpr int64_t panelsFor(int64_t rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }
#else
constexpr int kRowLimit = 4;
constexpr int64_t panelsFor(int64_t) { return 1; }
#endif

template <int R, int P>
struct F32Tile {
  static void run(const Tile& t) {
    const auto* const x = static_cast<const float*>(t.x);
    const auto* const w = static_cast<const float*>(t.panels);
    Lanes16 acc[R][P];
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) acc[r][p] = loadPartial<Lanes16>(t, r, p);
    }
    for (int64_t k = 0; k < t.k; ++k) {
      Lanes16 weights[P];
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) weights[p] = Lanes16::load(w + p * t.panelStride + k * kPanelCols);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Lanes16 value = Lanes16::broadcast(x[r * t.xStride + k]);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) acc[r][p].addProduct(value, weights[p]);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) storePartial(t, r, p, acc[r][p]);
    }
  }
};

/** bf16 weights, widened; a pair of k at a time. An odd K has one real element in its last pair. */
template <int R, int P>
struct Bf16Tile {
  static void run(const Tile& t) {
    const auto* const x = static_cast<const float*>(t.x);
    const auto* const w = static_cast<const uint16_t*>(t.panels);
    Lanes16 acc[R][P];
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) acc[r][p] = loadPartial<Lanes16>(t, r, p);
    }
    int64_t k = 0;
    for (; k + 2 <= t.k; k += 2) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const PairLanes16 pair = PairLanes16::load(w + p * t.panelStride + k * kPanelCols);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          acc[r][p].addProduct(Lanes16::broadcast(x[r * t.xStride + k]), pair.even);
          acc[r][p].addProduct(Lanes16::broadcast(x[r * t.xStride + k + 1]), pair.odd);
        }
      }
    }
    if (k < t.k) {
      for (int p = 0; p < P; ++p) {
        const PairLanes16 pair = PairLanes16::load(w + p * t.panelStride + k * kPanelCols);
        for (int r = 0; r < R; ++r) acc[r][p].addProduct(Lanes16::broadcast(x[r * t.xStride + k]), pair.even);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) storePartial(t, r, p, acc[r][p]);
    }
  }
};

/** The tile functions for up to kRowLimit rows, for a kernel that is a template over rows and panels. */
template <template <int, int> class Kernel, typename PanelWeight>
struct Shape {
  using Element = float;
  using Weight = PanelWeight;
  static constexpr int64_t kMaxRows = kRowLimit;
  static constexpr int64_t panels(int64_t rows) { return panelsFor(rows); }

  static TileFn tile(int64_t rows, int64_t width) {
    switch (rows) {
      case 1:
        return pick<1>(width);
      case 2:
        return pick<2>(width);
      case 3:
        return pick<3>(width);
      case 4:
        return pick<4>(width);
      case 5:
        return pick<kRowLimit >= 5 ? 5 : 1>(width);
      default:
        return pick<kRowLimit >= 6 ? 6 : 1>(width);
    }
  }

  template <int R>
  static TileFn pick(int64_t width) {
    constexpr int kWidest = static_cast<int>(panelsFor(R));
    if constexpr (kWidest >= 8) {
      if (width == 8) return Kernel<R, 8>::run;
    }
    if constexpr (kWidest >= 4) {
      if (width == 4) return Kernel<R, 4>::run;
    }
    if constexpr (kWidest >= 2) {
      if (width == 2) return Kernel<R, 2>::run;
    }
    return Kernel<R, 1>::run;
  }
};

}  // namespace

void matmulF32(const MatmulBlock& block) { TileRunner<Shape<F32Tile, float>>(block, block.k * kPanelCols).run(); }

void matmulBf16Fma(const MatmulBlock& block) {
  TileRunner<Shape<Bf16Tile, uint16_t>>(block, (block.k + 1) / 2 * 2 * kPanelCols).run();
}

}  // namespace guildhall::GUILDHALL_ISA
