// Matmul of the bf16-dot family: both operands bf16, a chain of pairwise dot instructions over ascending pairs of k
// into f32 lanes. Compiled with AVX-512 BF16 only.

#include "dot_lanes.h"
#include "matmul_isa.h"
#include "tiles.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

template <int R, int P, bool Fetch>
void dotTile(const Tile& t) {
  DotLanes acc[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) acc[r][p] = loadPartial<DotLanes>(t, r, p);
  }
  const uint8_t* w = t.panels + t.kBegin / 2 * 64;
  const int64_t end = (t.kEnd + 1) / 2;
  for (int64_t pair = t.kBegin / 2; pair < end; ++pair, w += 64) {
    __m512i weights[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      weights[p] = _mm512_loadu_si512(w + p * t.panelBytes);
      if constexpr (Fetch) _mm_prefetch(reinterpret_cast<const char*>(w + p * t.panelBytes + t.ahead), P > 1 ? _MM_HINT_T1 : _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i x = broadcast32(t.x[r] + 4 * pair);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) acc[r][p].addPairs(weights[p], x);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) storePartial(t, r, p, acc[r][p]);
  }
}

struct DotShape {
  static constexpr int kRows = 6;
  static constexpr int kPanels = 4;
  static constexpr int kStreamRows = 8;
  static constexpr int kStreamPanels = 1;
  static constexpr int64_t kSlice = 1024;

  template <int R, int P>
  struct Kernel {
    static void run(const Tile& t) { t.ahead != 0 ? dotTile<R, P, true>(t) : dotTile<R, P, false>(t); }
  };
};

}  // namespace

void matmulBf16Dot(const MatmulBlock& block) {
  TileRunner<DotShape>(block, KernelFamily::kBf16Dot).run();
}

}  // namespace guildhall::GUILDHALL_ISA
