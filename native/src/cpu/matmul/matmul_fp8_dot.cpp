// Matmul of the fp8-dot family: e4m3 weights are widened to bf16, which is exact, by two tables of bytes; inside a block
// of 128 inputs a chain of pairwise dot instructions, then acc = fma(block sum, scale, acc). Compiled with AVX-512 BF16
// and VBMI only.

#include "dot_lanes.h"
#include "guildhall/bf16.h"
#include "guildhall/tensor.h"
#include "matmul_isa.h"
#include "tiles.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/** Low and high bytes of the bf16 of the 128 magnitudes. */
struct WidenTables {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];

  WidenTables() {
    for (int bits = 0; bits < 128; ++bits) {
      const Bf16 wide = floatToBf16(f8e4m3ToFloat(static_cast<uint8_t>(bits)));
      low[bits] = static_cast<uint8_t>(wide & 0xff);
      high[bits] = static_cast<uint8_t>(wide >> 8);
    }
  }
};

const WidenTables& widenTables() {
  static const WidenTables tables;
  return tables;
}

/** The tables in registers. */
struct Widener {
  __m512i low[2];
  __m512i high[2];

  explicit GH_DOT_INLINE Widener(const WidenTables& t)
      : low{_mm512_load_si512(t.low), _mm512_load_si512(t.low + 64)},
        high{_mm512_load_si512(t.high), _mm512_load_si512(t.high + 64)} {}

  /** A step of 4 inputs: `first` has the pairs of inputs 0, 1, `second` those of 2, 3. */
  GH_DOT_INLINE void widen(__m512i bytes, __m512i& first, __m512i& second) const {
    const __m512i lows = _mm512_permutex2var_epi8(low[0], bytes, low[1]);
    __m512i highs = _mm512_permutex2var_epi8(high[0], bytes, high[1]);
    constexpr int kOrAnd = 0xf8;  // a | (b & c)
    highs = _mm512_ternarylogic_epi64(highs, bytes, _mm512_set1_epi8(static_cast<char>(0x80)), kOrAnd);
    first = _mm512_unpacklo_epi8(lows, highs);
    second = _mm512_unpackhi_epi8(lows, highs);
  }
};

template <int R, int P, bool Fetch>
void fp8Tile(const Tile& t) {
  const Widener widener(widenTables());
  DotLanes acc[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) acc[r][p] = loadPartial<DotLanes>(t, r, p);
  }
  const uint8_t* block = t.panels + t.kBegin / kBlockInputs * kFp8BlockBytes;
  for (int64_t k = t.kBegin; k < t.kEnd; k += kBlockInputs, block += kFp8BlockBytes) {
    DotLanes sum[R][P];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) sum[r][p] = DotLanes::zero();
    }
    const uint8_t* w = block + 64;
    for (int64_t at = 2 * k; at < 2 * (k + kBlockInputs); at += 8, w += 64) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        if constexpr (Fetch) _mm_prefetch(reinterpret_cast<const char*>(w + p * t.panelBytes + t.ahead), P > 1 ? _MM_HINT_T1 : _MM_HINT_T0);
        __m512i first, second;
        widener.widen(_mm512_loadu_si512(w + p * t.panelBytes), first, second);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          sum[r][p].addPairs(first, broadcast32(t.x[r] + at));
          sum[r][p].addPairs(second, broadcast32(t.x[r] + at + 4));
        }
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const __m512 scale = _mm512_loadu_ps(block + p * t.panelBytes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][p].v = _mm512_fmadd_ps(sum[r][p].v, scale, acc[r][p].v);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) storePartial(t, r, p, acc[r][p]);
  }
}

struct Fp8Shape {
  static constexpr int kRows = 6;
  static constexpr int kPanels = 2;
  static constexpr int kStreamRows = 4;
  static constexpr int kStreamPanels = 1;
  static constexpr int64_t kSlice = 512;

  template <int R, int P>
  struct Kernel {
    static void run(const Tile& t) { t.ahead != 0 ? fp8Tile<R, P, true>(t) : fp8Tile<R, P, false>(t); }
  };
};

}  // namespace

void matmulFp8Dot(const MatmulBlock& block) {
  TileRunner<Fp8Shape>(block, KernelFamily::kFp8Dot).run();
}

}  // namespace guildhall::GUILDHALL_ISA
