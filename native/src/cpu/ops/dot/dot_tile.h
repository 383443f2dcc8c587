#pragma once

// Products of bf16 pairs with the units of kDot pages: c[m][lane] = start + pairs in order, one chain of pairwise dot
// instructions an element, so a row's bits do not depend on the rows computed with it. AVX-512 BF16 (and VBMI for fp8).

#include <immintrin.h>

#include <cstring>

#include "guildhall/ops/kv_layout.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

/** Rows of a tile: 16 chains hide the latency of the dot, and 8 query heads of a kv head share each load. */
constexpr int kDotRows = 8;

static GH_INLINE __m512bh asPairs(__m512i x) { return reinterpret_cast<__m512bh>(x); }

static GH_INLINE __m512bh splatPair(const Bf16* p) {
  int32_t pair;
  std::memcpy(&pair, p, sizeof pair);
  return asPairs(_mm512_set1_epi32(pair));
}

/** A unit of bf16: lanes 0..15, then 16..31. */
struct Bf16Units {
  static constexpr int64_t kBytes = kKvUnit * 2;

  GH_INLINE void load(const uint8_t* p, __m512bh (&v)[2]) const {
    v[0] = asPairs(_mm512_loadu_si512(p));
    v[1] = asPairs(_mm512_loadu_si512(p + 64));
  }
};

/**
 * A unit of E4M3, widened exactly: both bytes of each bf16 magnitude come from 128-entry tables, the sign is put on the
 * high one, and interleaving them restores the order (kvUnitByte).
 */
struct Fp8Units {
  static constexpr int64_t kBytes = kKvUnit;

  __m512i low[2], high[2];

  Fp8Units() {
    alignas(64) uint8_t lowBytes[128], highBytes[128];
    for (int i = 0; i < 128; ++i) {
      const Bf16 bits = bf16Magnitude(i);
      lowBytes[i] = static_cast<uint8_t>(bits & 0xffu);
      highBytes[i] = static_cast<uint8_t>(bits >> 8);
    }
    for (int i = 0; i < 2; ++i) {
      low[i] = _mm512_load_si512(lowBytes + i * 64);
      high[i] = _mm512_load_si512(highBytes + i * 64);
    }
  }

  GH_INLINE void load(const uint8_t* p, __m512bh (&v)[2]) const {
    const __m512i codes = _mm512_loadu_si512(p);
    const __m512i lows = _mm512_permutex2var_epi8(low[0], codes, low[1]);
    const __m512i highs = _mm512_permutex2var_epi8(high[0], codes, high[1]);
    // highs | (codes & 0x80)
    const __m512i withSign = _mm512_ternarylogic_epi32(highs, codes, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);
    v[0] = asPairs(_mm512_unpacklo_epi8(lows, withSign));
    v[1] = asPairs(_mm512_unpackhi_epi8(lows, withSign));
  }

 private:
  static Bf16 bf16Magnitude(int code) {
    if (code == 127) return 0x7fc0;
    const int exponent = code >> 3, mantissa = code & 7;
    if (exponent > 0) return static_cast<Bf16>((exponent + 120) << 7 | mantissa << 4);
    if (mantissa == 0) return 0;
    const int top = mantissa >= 4 ? 2 : mantissa >= 2 ? 1 : 0;  // mantissa / 8 * 2^-6 = 1.x * 2^(top - 9)
    return static_cast<Bf16>((top + 118) << 7 | ((mantissa << (3 - top)) & 7) << 4);
  }
};

static GH_INLINE void prefetch(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1); }

/** Rows of pairs, `aStride` elements apart, times a column of units. */
template <typename Units>
struct DotColumn {
  const Units& units;
  const Bf16* a;
  int64_t aStride;
  const uint8_t* b;
  /** Null, or units to fetch meanwhile, one for each of the first `aheadUnits` pairs. */
  const uint8_t* ahead;
  int64_t aheadUnits;
};

/** Pairs [begin, end) onto acc. Fetching must not slow arithmetic that has no memory to wait for, so it is a choice. */
template <int MR, bool Fetch, typename Units>
static GH_INLINE void accumulatePairs(__m512 (&acc)[MR][2], const DotColumn<Units>& c, int64_t begin, int64_t end) {
  const uint8_t* b = c.b + begin * Units::kBytes;
  for (int64_t k = begin; k < end; ++k, b += Units::kBytes) {
    __m512bh v[2];
    c.units.load(b, v);
    if constexpr (Fetch) {
      for (int64_t i = 0; i < Units::kBytes; i += 64) prefetch(c.ahead + k * Units::kBytes + i);
    }
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const __m512bh pair = splatPair(c.a + m * c.aStride + 2 * k);
      acc[m][0] = _mm512_dpbf16_ps(acc[m][0], v[0], pair);
      acc[m][1] = _mm512_dpbf16_ps(acc[m][1], v[1], pair);
    }
  }
}

/** All of `pairs`, fetching what the column asks for. */
template <int MR, typename Units>
static GH_INLINE void accumulate(__m512 (&acc)[MR][2], const DotColumn<Units>& c, int64_t pairs) {
  const int64_t fetching = c.ahead == nullptr ? 0 : minInt(pairs, c.aheadUnits);
  accumulatePairs<MR, true>(acc, c, 0, fetching);
  accumulatePairs<MR, false>(acc, c, fetching, pairs);
}

/** One more pair of which only the first counts: the second's operands are zero, whatever the page holds. */
template <typename Units>
static GH_INLINE void accumulateHalfPair(__m512 (&acc)[1][2], const DotColumn<Units>& c, int64_t pair) {
  __m512bh v[2];
  c.units.load(c.b + pair * Units::kBytes, v);
  const __m512i firsts = _mm512_set1_epi32(0xffff);
  const auto weight = asPairs(_mm512_set1_epi32(c.a[2 * pair]));
  for (int i = 0; i < 2; ++i) {
    const auto only = asPairs(_mm512_and_si512(reinterpret_cast<__m512i>(v[i]), firsts));
    acc[0][i] = _mm512_dpbf16_ps(acc[0][i], only, weight);
  }
}

/** f(row, MR as a constant) for tiles of 8, 4, 2 and 1 rows. */
template <typename F>
static GH_INLINE void eachTile(int64_t rows, F f) {
  int64_t m = 0;
  for (; m + 8 <= rows; m += 8) f(m, std::integral_constant<int, 8>());
  if (m + 4 <= rows) f(m, std::integral_constant<int, 4>()), m += 4;
  if (m + 2 <= rows) f(m, std::integral_constant<int, 2>()), m += 2;
  if (m < rows) f(m, std::integral_constant<int, 1>());
}

}  // namespace guildhall::GUILDHALL_ISA
