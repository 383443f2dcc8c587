#pragma once

// Register-blocked products whose every output element is one chain of fma over ascending k, whatever the blocking:
//   c[m][n] = start + a[m][0] b[0][n] + a[m][1] b[1][n] + ...
// so a row's bits do not depend on which rows are computed with it, and all instruction sets agree.

#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

// Tall tiles for many rows, wide ones for few: enough independent chains to hide the latency of fma, in registers.
#if defined(GUILDHALL_ISA_AVX512)
constexpr int kTallRows = 8;
constexpr int kTallVecs = 2;
constexpr int kWideRows = 4;
constexpr int kWideVecs = 4;
#elif defined(GUILDHALL_ISA_AVX2)
constexpr int kTallRows = 4;
constexpr int kTallVecs = 1;
constexpr int kWideRows = 2;
constexpr int kWideVecs = 2;
#else
constexpr int kTallRows = 2;
constexpr int kTallVecs = 1;
constexpr int kWideRows = 1;
constexpr int kWideVecs = 1;
#endif

/** Where c starts: at zero, as it is, or as it is times a factor per row. */
enum class Start { Zero, Keep, Scaled };

/** a[m][k] at a + m * aRow + k * aCol; b and c are row-major with contiguous columns. */
struct Product {
  const float* a;
  int64_t aRow;
  int64_t aCol;
  const float* b;
  int64_t bRow;
  float* c;
  int64_t cRow;
  /** Start::Scaled: factor of row m at scale[m * scaleStep]. */
  const float* scale = nullptr;
  int64_t scaleStep = 1;
};

/** Rows [row, row + MR) and NV vectors of columns from `col`, k from `begin` to `end`; `last` masks the last vector. */
template <int MR, int NV, bool Masked>
static GH_INLINE void accumulateTile(F32x16 (&acc)[MR][NV], const Product& p, int64_t row, int64_t col, int64_t begin,
                                     int64_t end, Mask16 last) {
  const float* a = p.a + row * p.aRow + begin * p.aCol;
  const float* b = p.b + begin * p.bRow + col;
  for (int64_t k = begin; k < end; ++k, a += p.aCol, b += p.bRow) {
    F32x16 bv[NV];
    for (int v = 0; v < NV; ++v) bv[v] = (Masked && v == NV - 1) ? load(b + v * kLanes, last) : load(b + v * kLanes);
    for (int m = 0; m < MR; ++m) {
      const F32x16 av = splat(a[m * p.aRow]);
      for (int v = 0; v < NV; ++v) acc[m][v] = fma(av, bv[v], acc[m][v]);
    }
  }
}

template <Start S, int NV, bool Masked>
static GH_INLINE void startRow(F32x16 (&acc)[NV], const Product& p, int64_t row, int64_t col, Mask16 last) {
  const float* c = p.c + row * p.cRow + col;
  for (int v = 0; v < NV; ++v) {
    if constexpr (S == Start::Zero) {
      acc[v] = zero();
    } else {
      acc[v] = (Masked && v == NV - 1) ? load(c + v * kLanes, last) : load(c + v * kLanes);
    }
    if constexpr (S == Start::Scaled) acc[v] = mul(acc[v], splat(p.scale[row * p.scaleStep]));
  }
}

template <int NV, bool Masked>
static GH_INLINE void finishRow(const F32x16 (&acc)[NV], const Product& p, int64_t row, int64_t col, Mask16 last) {
  float* c = p.c + row * p.cRow + col;
  for (int v = 0; v < NV; ++v) {
    if (Masked && v == NV - 1) {
      store(c + v * kLanes, acc[v], last);
    } else {
      store(c + v * kLanes, acc[v]);
    }
  }
}

/**
 * MR rows whose depths depth(m) do not decrease: k below the first row's depth together, the rest row by row.
 * Rows are finished in order, so b may be c when depth(m) <= m.
 */
template <Start S, int MR, int NV, bool Masked, typename Depth>
static GH_INLINE void tileRows(const Product& p, int64_t row, int64_t col, Mask16 last, Depth depth) {
  F32x16 acc[MR][NV];
  for (int m = 0; m < MR; ++m) startRow<S, NV, Masked>(acc[m], p, row + m, col, last);
  const int64_t common = depth(row);
  accumulateTile<MR, NV, Masked>(acc, p, row, col, 0, common, last);
  for (int m = 0; m < MR; ++m) {
    F32x16 one[1][NV];
    for (int v = 0; v < NV; ++v) one[0][v] = acc[m][v];
    accumulateTile<1, NV, Masked>(one, p, row + m, col, common, depth(row + m), last);
    finishRow<NV, Masked>(one[0], p, row + m, col, last);
  }
}

template <Start S, int NV, bool Masked, typename Depth>
static void columnPanel(const Product& p, int64_t rows, int64_t col, Mask16 last, Depth depth) {
  int64_t row = 0;
  if constexpr (NV <= kTallVecs) {
    for (; row + kTallRows <= rows; row += kTallRows) tileRows<S, kTallRows, NV, Masked>(p, row, col, last, depth);
  }
  for (; row + kWideRows <= rows; row += kWideRows) tileRows<S, kWideRows, NV, Masked>(p, row, col, last, depth);
  for (; row < rows; ++row) tileRows<S, 1, NV, Masked>(p, row, col, last, depth);
}

/** Panels of NV vectors from `col` on, as many as fit; returns the first column that is left. */
template <Start S, int NV, typename Depth>
static int64_t columnPanels(const Product& p, int64_t rows, int64_t col, int64_t cols, Depth depth) {
  for (; col + NV * kLanes <= cols; col += NV * kLanes) columnPanel<S, NV, false>(p, rows, col, 0xffffu, depth);
  return col;
}

/** Rows [0, rows), columns [0, cols), row m over k in [0, depth(m)), depths ascending. */
template <Start S, typename Depth>
static void multiply(const Product& p, int64_t rows, int64_t cols, Depth depth) {
  int64_t col = 0;
  if (rows < kTallRows) col = columnPanels<S, kWideVecs>(p, rows, col, cols, depth);
  col = columnPanels<S, kTallVecs>(p, rows, col, cols, depth);
  col = columnPanels<S, 1>(p, rows, col, cols, depth);
  if (col < cols) columnPanel<S, 1, true>(p, rows, col, firstLanes(cols - col), depth);
}

}  // namespace guildhall::GUILDHALL_ISA
