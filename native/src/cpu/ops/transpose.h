#pragma once

// Transposition of f32 blocks: moves only, so every instruction set gives the same bits.

#include "guildhall/simd.h"

namespace guildhall::GUILDHALL_ISA {

#if defined(GUILDHALL_ISA_AVX512)

/** Pairs of rows, then of pairs, then of quarters: after four rounds register i holds column i. */
static GH_INLINE void transposeBlock(const float* from, int64_t fromStride, float* to, int64_t toStride) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(from + i * fromStride);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  const auto low = [](__m512 x, __m512 y) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  };
  const auto high = [](__m512 x, __m512 y) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  };
  for (int i = 0; i < 16; i += 4) {
    a[i] = low(b[i], b[i + 2]);
    a[i + 1] = high(b[i], b[i + 2]);
    a[i + 2] = low(b[i + 1], b[i + 3]);
    a[i + 3] = high(b[i + 1], b[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    b[i] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
    b[i + 4] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd);
    b[i + 8] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
    b[i + 12] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    _mm512_storeu_ps(to + i * toStride, _mm512_shuffle_f32x4(b[i], b[i + 8], 0x88));
    _mm512_storeu_ps(to + (i + 8) * toStride, _mm512_shuffle_f32x4(b[i], b[i + 8], 0xdd));
  }
}

#else

static GH_INLINE void transposeBlock(const float* from, int64_t fromStride, float* to, int64_t toStride) {
  for (int j = 0; j < kLanes; ++j) {
    for (int i = 0; i < kLanes; ++i) to[j * toStride + i] = from[i * fromStride + j];
  }
}

#endif

/** to[j][i] = from[i][j] for `rows` rows of `cols` columns, in whole blocks of 16 x 16: both sides have room for them. */
static void transposeRows(const float* from, int64_t fromStride, int64_t rows, int64_t cols, float* to,
                          int64_t toStride) {
  for (int64_t i = 0; i < rows; i += kLanes) {
    for (int64_t j = 0; j < cols; j += kLanes) {
      transposeBlock(from + i * fromStride + j, fromStride, to + j * toStride + i, toStride);
    }
  }
}

}  // namespace guildhall::GUILDHALL_ISA
