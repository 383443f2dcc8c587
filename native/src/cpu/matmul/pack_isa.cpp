// Row quantisers and the transposition of sixteen rows, compiled once per instruction set.

#include <cmath>
#include <cstring>

#include "guildhall/quantise.h"
#include "guildhall/simd.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/** Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even. */
constexpr float kRound = 12582912.0f;

float largestMagnitude(const float* x, int64_t n) {
  float top = 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    const float magnitude = std::fabs(x[i]);
    top = magnitude > top ? magnitude : top;
  }
  return top;
}

/** A value that is not finite gives its group the scale NaN: the outputs are NaN then, as with unquantised weights. */
constexpr uint16_t kNanHalf = 0x7e00;

bool allFinite(const float* x, int64_t n) {
  float total = 0.0f;
  for (int64_t i = 0; i < n; ++i) total += x[i] * 0.0f;
  return total == 0.0f;
}

/** Values [begin, begin + N) of a row, zeros past its end. */
template <int64_t N>
const float* groupAt(const float* x, int64_t k, int64_t begin, float (&edge)[N]) {
  if (begin + N <= k) return x + begin;
  for (int64_t i = 0; i < N; ++i) edge[i] = begin + i < k ? x[begin + i] : 0.0f;
  return edge;
}

float inverseOf(float scale) { return scale == 0.0f ? 0.0f : 1.0f / scale; }

void quantiseQ8(const float* x, int64_t k, int8_t* out, uint16_t* scales) {
  for (int64_t begin = 0; begin < paddedInputs(k); begin += kQ8Group) {
    float edge[kQ8Group];
    const float* const values = groupAt(x, k, begin, edge);
    scales[begin / kQ8Group] = kNanHalf;
    std::memset(out + begin, 0, kQ8Group);
    if (!allFinite(values, kQ8Group)) continue;
    const uint16_t half = floatToHalf(largestMagnitude(values, kQ8Group) / 127.0f);
    const float inverse = inverseOf(halfToFloat(half));
    for (int64_t i = 0; i < kQ8Group; ++i) {
      float q = (values[i] * inverse + kRound) - kRound;
      q = q < -127.0f ? -127.0f : q > 127.0f ? 127.0f : q;
      out[begin + i] = static_cast<int8_t>(static_cast<int32_t>(q));
    }
    scales[begin / kQ8Group] = half;
  }
}

struct Q4Group {
  F32x16 low, high;
};

/** Values over the scale, rounded and kept in [-8, 7]. */
Q4Group roundedQ4(const Q4Group& x, float inverse) {
  const auto round = [&](F32x16 v) {
    const F32x16 q = sub(add(mul(v, splat(inverse)), splat(kRound)), splat(kRound));
    return min(max(q, splat(-8.0f)), splat(7.0f));
  };
  return {round(x.low), round(x.high)};
}

float squaredError(const Q4Group& x, const Q4Group& q, float scale) {
  const F32x16 low = fnma(q.low, splat(scale), x.low);
  const F32x16 high = fnma(q.high, splat(scale), x.high);
  return sum(fma(low, low, mul(high, high)));
}

/** The f16 scale with the smallest error. Negative scales let -8, the longer side, be positive. */
uint16_t bestQ4Scale(const Q4Group& x, float top) {
  uint16_t best = 0;
  float least = __builtin_inff();
  // Divisors around 8: smaller ones keep the largest value exact, larger ones cut it and serve the others.
  constexpr float kDivisors[] = {7.0f, 7.5f, 8.0f, 8.5f, 9.0f, 10.0f};
  for (const float divisor : kDivisors) {
    for (const float sign : {1.0f, -1.0f}) {
      const uint16_t half = floatToHalf(sign * top / divisor);
      const float scale = halfToFloat(half);
      if (scale == 0.0f) continue;
      const float error = squaredError(x, roundedQ4(x, 1.0f / scale), scale);
      if (error < least) {
        least = error;
        best = half;
      }
    }
  }
  return best;
}

void quantiseQ4(const float* x, int64_t k, uint8_t* out, uint16_t* scales) {
  for (int64_t begin = 0; begin < paddedInputs(k); begin += kQ4Group) {
    float edge[kQ4Group];
    const float* const values = groupAt(x, k, begin, edge);
    scales[begin / kQ4Group] = kNanHalf;
    std::memset(out + begin, 8, kQ4Group);
    if (!allFinite(values, kQ4Group)) continue;
    const Q4Group group{load(values), load(values + kLanes)};
    const float top = largestMagnitude(values, kQ4Group);
    const uint16_t half = top == 0.0f ? uint16_t{0} : bestQ4Scale(group, top);
    const Q4Group q = roundedQ4(group, inverseOf(halfToFloat(half)));
    float lanes[kQ4Group];
    store(lanes, q.low);
    store(lanes + kLanes, q.high);
    for (int64_t i = 0; i < kQ4Group; ++i) out[begin + i] = static_cast<uint8_t>(static_cast<int32_t>(lanes[i]) + 8);
    scales[begin / kQ4Group] = half;
  }
}

void quantiseFp8(const float* x, int64_t k, uint8_t* out, float* scales) {
  for (int64_t begin = 0; begin < paddedInputs(k); begin += kBlockInputs) {
    float edge[kBlockInputs];
    const float* const values = groupAt(x, k, begin, edge);
    const float scale = largestMagnitude(values, kBlockInputs) / 448.0f;
    const float inverse = inverseOf(scale);
    for (int64_t i = 0; i < kBlockInputs; ++i) out[begin + i] = floatToF8e4m3(values[i] * inverse);
    scales[begin / kBlockInputs] = scale;
  }
}

void roundBf16(const float* x, int64_t k, Bf16* out) {
  for (int64_t i = 0; i < k; ++i) out[i] = floatToBf16(x[i]);
}

#if defined(GUILDHALL_ISA_AVX512)
/** Sixteen rows of sixteen words. */
void transposeSquare(const uint8_t* const* rows, int64_t at, uint8_t* out) {
  __m512i a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(rows[i] + at);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
  // a[4i + j], 128-bit lane l: words 4l + j of rows 4i … 4i + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x44);
    const __m512i high = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xee);
    const __m512i low2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x44);
    const __m512i high2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xee);
    _mm512_storeu_si512(out + 64 * j, _mm512_shuffle_i32x4(low, low2, 0x88));
    _mm512_storeu_si512(out + 64 * (4 + j), _mm512_shuffle_i32x4(low, low2, 0xdd));
    _mm512_storeu_si512(out + 64 * (8 + j), _mm512_shuffle_i32x4(high, high2, 0x88));
    _mm512_storeu_si512(out + 64 * (12 + j), _mm512_shuffle_i32x4(high, high2, 0xdd));
  }
}
#else
void transposeSquare(const uint8_t* const* rows, int64_t at, uint8_t* out) {
  for (int64_t lane = 0; lane < 16; ++lane) {
    for (int64_t w = 0; w < 16; ++w) std::memcpy(out + 64 * w + 4 * lane, rows[lane] + at + 4 * w, 4);
  }
}
#endif

void transposeWords(const uint8_t* const* rows, int64_t words, uint8_t* out) {
  int64_t w = 0;
  for (; w + 16 <= words; w += 16) transposeSquare(rows, 4 * w, out + 64 * w);
  for (; w < words; ++w) {
    for (int64_t lane = 0; lane < 16; ++lane) std::memcpy(out + 64 * w + 4 * lane, rows[lane] + 4 * w, 4);
  }
}

}  // namespace

const PackKernels& packKernelTable() {
  static const PackKernels table{quantiseQ8, quantiseQ4, quantiseFp8, roundBf16, transposeWords};
  return table;
}

}  // namespace guildhall::GUILDHALL_ISA
