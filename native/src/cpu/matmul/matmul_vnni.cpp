// Matmul of the q8 and q4 families with AVX-512 VNNI: exact integer dot products inside a group, then one f32
// multiply-add per group: acc = fma(float(dot), weight scale * row scale, acc). Gives the bits of matmul_int8.cpp.

#include "dot_lanes.h"
#include "matmul_isa.h"
#include "tiles.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

template <int P, bool Fetch>
GH_DOT_INLINE __m512i loadWeights(const uint8_t* p, int64_t ahead) {
  if constexpr (Fetch) _mm_prefetch(reinterpret_cast<const char*>(p + ahead), P > 1 ? _MM_HINT_T1 : _MM_HINT_T0);
  return _mm512_loadu_si512(p);
}

/** The sums of one group of inputs and where its scales lie. */
template <int R, int P>
struct GroupSums {
  __m512i sum[R][P];

  /** Starts at what the zero point of the weights adds too much. */
  GH_DOT_INLINE void start(const Tile& t, int64_t correction) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i first = broadcast32(t.x[r] + correction);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) sum[r][p] = first;
    }
  }

  GH_DOT_INLINE void add(const Tile& t, int64_t at, const __m512i (&weights)[P]) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i x = broadcast32(t.x[r] + at);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) sum[r][p] = addQuads(sum[r][p], weights[p], x);
    }
  }

  GH_DOT_INLINE void finish(const Tile& t, const uint8_t* scales, int64_t rowScale, DotLanes (&acc)[R][P]) const {
    __m512 weightScale[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      weightScale[p] = _mm512_cvtph_ps(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + p * t.panelBytes)));
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 scale = broadcastFloat(t.x[r] + rowScale);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        acc[r][p].v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][p]), _mm512_mul_ps(weightScale[p], scale), acc[r][p].v);
      }
    }
  }
};

template <int R, int P>
GH_DOT_INLINE void loadAll(const Tile& t, DotLanes (&acc)[R][P]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) acc[r][p] = loadPartial<DotLanes>(t, r, p);
  }
}

template <int R, int P>
GH_DOT_INLINE void storeAll(const Tile& t, const DotLanes (&acc)[R][P]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) storePartial(t, r, p, acc[r][p]);
  }
}

template <int R, int P, bool Fetch>
void q8Tile(const Tile& t) {
  DotLanes acc[R][P];
  loadAll(t, acc);
  const int64_t scales = rowScalesOffset(t.k);
  const int64_t corrections = rowCorrectionsOffset(t.k);
  const uint8_t* block = t.panels + t.kBegin / kBlockInputs * kQ8BlockBytes;
  for (int64_t k = t.kBegin; k < t.kEnd; k += kBlockInputs, block += kQ8BlockBytes) {
    for (int64_t g = 0; g < 2; ++g) {
      const int64_t group = k / kQ8Group + g;
      GroupSums<R, P> sums;
      sums.start(t, corrections + 4 * group);
      const uint8_t* w = block + 64 + g * kQ8Group * kPanelCols;
      for (int64_t at = group * kQ8Group; at < (group + 1) * kQ8Group; at += 4, w += 64) {
        __m512i weights[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) weights[p] = loadWeights<P, Fetch>(w + p * t.panelBytes, t.ahead);
        sums.add(t, at, weights);
      }
      sums.finish(t, block + 32 * g, scales + 4 * group, acc);
    }
  }
  storeAll(t, acc);
}

template <int R, int P, bool Fetch>
void q4Tile(const Tile& t) {
  DotLanes acc[R][P];
  loadAll(t, acc);
  const int64_t scales = rowScalesOffset(t.k);
  const int64_t corrections = rowCorrectionsOffset(t.k);
  const __m512i low = _mm512_set1_epi8(15);
  const uint8_t* block = t.panels + t.kBegin / kBlockInputs * kQ4BlockBytes;
  for (int64_t k = t.kBegin; k < t.kEnd; k += kBlockInputs, block += kQ4BlockBytes) {
    for (int64_t g = 0; g < 4; ++g) {
      const int64_t group = k / kQ4Group + g;
      GroupSums<R, P> sums;
      sums.start(t, corrections + 4 * group);
      const uint8_t* w = block + 128 + g * kQ4Group * kPanelCols / 2;
      for (int64_t at = group * kQ4Group; at < (group + 1) * kQ4Group; at += 8, w += 64) {
        __m512i even[P], odd[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          const __m512i both = loadWeights<P, Fetch>(w + p * t.panelBytes, t.ahead);
          even[p] = _mm512_and_si512(both, low);
          odd[p] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        }
        sums.add(t, at, even);
        sums.add(t, at + 4, odd);
      }
      sums.finish(t, block + 32 * g, scales + 4 * (group * kQ4Group / kRowGroup), acc);
    }
  }
  storeAll(t, acc);
}

struct Q8Shape {
  static constexpr int kRows = 6;
  static constexpr int kPanels = 2;
  static constexpr int kStreamRows = 8;
  static constexpr int kStreamPanels = 1;
  static constexpr int64_t kSlice = 512;

  template <int R, int P>
  struct Kernel {
    static void run(const Tile& t) { t.ahead != 0 ? q8Tile<R, P, true>(t) : q8Tile<R, P, false>(t); }
  };
};

struct Q4Shape {
  static constexpr int kRows = 6;
  static constexpr int kPanels = 2;
  static constexpr int kStreamRows = 4;
  static constexpr int kStreamPanels = 1;
  static constexpr int64_t kSlice = 1024;

  template <int R, int P>
  struct Kernel {
    static void run(const Tile& t) { t.ahead != 0 ? q4Tile<R, P, true>(t) : q4Tile<R, P, false>(t); }
  };
};

}  // namespace

void matmulQ8Vnni(const MatmulBlock& block) {
  TileRunner<Q8Shape>(block, KernelFamily::kQ8Dot).run();
}

void matmulQ4Vnni(const MatmulBlock& block) {
  TileRunner<Q4Shape>(block, KernelFamily::kQ4Dot).run();
}

}  // namespace guildhall::GUILDHALL_ISA
