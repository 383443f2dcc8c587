// Matmul of the bf16-dot family: both operands bf16, a chain of pairwise dot instructions over ascending pairs of k
// into f32 lanes. Compiled with AVX-512 BF16 only.

#include <immintrin.h>

#include "matmul_isa.h"
#include "tiles.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

struct DotLanes {
  __m512 v;

  static DotLanes zero() { return {_mm512_setzero_ps()}; }
  static DotLanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
};

int32_t loadPair(const uint16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, sizeof pair);
  return pair;
}

template <int R, int P>
void dotTile(const Tile& t) {
  const auto* const x = static_cast<const uint16_t*>(t.x);
  const auto* const w = static_cast<const uint16_t*>(t.panels);
  DotLanes acc[R][P];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) acc[r][p] = loadPartial<DotLanes>(t, r, p);
  }
  for (int64_t k = 0; k < t.k; k += 2) {
    __m512bh weights[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      weights[p] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + p * t.panelStride + k * kPanelCols));
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto pair = reinterpret_cast<__m512bh>(_mm512_set1_epi32(loadPair(x + r * t.xStride + k)));
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) acc[r][p].v = _mm512_dpbf16_ps(acc[r][p].v, weights[p], pair);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) storePartial(t, r, p, acc[r][p]);
  }
}

struct DotShape {
  using Element = uint16_t;
  using Weight = uint16_t;
  static constexpr int64_t kMaxRows = 6;
  static constexpr int64_t panels(int64_t rows) { return rows == 1 ? 8 : 4; }

  static TileFn tile(int64_t rows, int64_t width) {
    switch (rows) {
      case 1:
        return width == 8 ? dotTile<1, 8> : pick<1>(width);
      case 2:
        return pick<2>(width);
      case 3:
        return pick<3>(width);
      case 4:
        return pick<4>(width);
      case 5:
        return pick<5>(width);
      default:
        return pick<6>(width);
    }
  }

  template <int R>
  static TileFn pick(int64_t width) {
    return width == 4 ? dotTile<R, 4> : width == 2 ? dotTile<R, 2> : dotTile<R, 1>;
  }
};

}  // namespace

void matmulBf16Dot(const MatmulBlock& block) { TileRunner<DotShape>(block, (block.k + 1) / 2 * 2 * kPanelCols).run(); }

}  // namespace guildhall::GUILDHALL_ISA
