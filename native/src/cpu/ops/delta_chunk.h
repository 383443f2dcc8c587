#pragma once

// The chunked delta rule over one block. Formulas in gated_delta_net.h. Every sum is one chain of fma over ascending k,
// so a row's bits do not depend on the rows that are computed with it, and all instruction sets agree.

#include "delta_block.h"
#include "transpose.h"

namespace guildhall::GUILDHALL_ISA {

using DeltaTile = F32x16[kTileRows][kTileVecs];

/** acc[m] += sum over k < depth of a[m][k] b[k], a[m][k] at a + m * aRow + k * aCol, b [depth][kPanel]. */
static GH_INLINE void accumulate(DeltaTile& acc, const float* a, int64_t aRow, int64_t aCol, const float* b,
                                 int64_t depth) {
  for (int64_t k = 0; k < depth; ++k, a += aCol, b += kPanel) {
    F32x16 bv[kTileVecs];
    for (int v = 0; v < kTileVecs; ++v) bv[v] = load(b + v * kLanes);
    for (int m = 0; m < kTileRows; ++m) {
      const F32x16 av = splat(a[m * aRow]);
      for (int v = 0; v < kTileVecs; ++v) acc[m][v] = fma(av, bv[v], acc[m][v]);
    }
  }
}

static GH_INLINE void loadTile(DeltaTile& acc, const float* from) {
  for (int m = 0; m < kTileRows; ++m) {
    for (int v = 0; v < kTileVecs; ++v) acc[m][v] = load(from + m * kPanel + v * kLanes);
  }
}

static GH_INLINE void storeTile(const DeltaTile& acc, float* to) {
  for (int m = 0; m < kTileRows; ++m) {
    for (int v = 0; v < kTileVecs; ++v) store(to + m * kPanel + v * kLanes, acc[m][v]);
  }
}

static GH_INLINE void clearTile(DeltaTile& acc) {
  for (int m = 0; m < kTileRows; ++m) {
    for (int v = 0; v < kTileVecs; ++v) acc[m][v] = zero();
  }
}

/** K K^T and Q K^T of the block, of which j <= i. */
static void multiplyKeys(const DeltaBlock& b, int64_t n, int64_t depth) {
  constexpr int kRows = kTileRows * kTileVecs / 2;
  transposeRows(b.k, b.keyRow, n, depth, b.keysT, kDeltaChunk);
  for (int64_t row = 0; row < n; row += kRows) {
    const float* const keys = b.k + row * b.keyRow;
    const float* const queries = b.q + row * b.keyRow;
    for (int64_t col = 0; col < row + kRows; col += kLanes) {
      F32x16 kk[kRows], qk[kRows];
      for (int m = 0; m < kRows; ++m) kk[m] = qk[m] = zero();
      for (int64_t d = 0; d < depth; ++d) {
        const F32x16 other = load(b.keysT + d * kDeltaChunk + col);
        for (int m = 0; m < kRows; ++m) {
          kk[m] = fma(splat(keys[m * b.keyRow + d]), other, kk[m]);
          qk[m] = fma(splat(queries[m * b.keyRow + d]), other, qk[m]);
        }
      }
      for (int m = 0; m < kRows; ++m) {
        store(b.keyKey + (row + m) * kDeltaChunk + col, kk[m]);
        store(b.queryKey + (row + m) * kDeltaChunk + col, qk[m]);
      }
    }
  }
}

/** A value head of the block, after multiplyKeys of its key head. */
class DeltaChunk {
 public:
  /** `state`: panels of S in scratch. */
  DeltaChunk(const DeltaBlock& block, float* state, int64_t n, int64_t keyDim, int64_t valueDim)
      : b_(block), state_(state), n_(n), keyDim_(keyDim), valueDim_(valueDim) {}

  void run() {
    accumulateDecays();
    applyDecays();
    for (int64_t col = 0; col < valueDim_; col += kPanel) {
      float* const state = state_ + col * b_.keyRow;
      float* const values = b_.values + col * kDeltaChunk;
      float* const out = b_.out + col * kDeltaChunk;
      for (int64_t row = 0; row < n_; row += kTileRows) {
        solveRows(row, state, values);
        multiplyRows(row, state, out);
      }
      advanceState(state, values);
    }
  }

 private:
  void accumulateDecays() {
    float total = 0.0f;
    for (int64_t i = 0; i < n_; ++i) {
      total += b_.g[i];
      b_.total[i] = total;
    }
    const F32x16 last = splat(total);
    eachVector(n_, [&](int64_t i, Mask16 m) {
      const F32x16 g = load(b_.total + i, m);
      store(b_.decay + i, exp(g), m);
      store(b_.rest + i, exp(sub(last, g)), m);
    });
  }

  /** system[i][j] = -beta_i (k_i . k_j) exp(G_i - G_j) for j < i, scores[i][j] = (q_i . k_j) exp(G_i - G_j) for j <= i. */
  void applyDecays() {
    for (int64_t i = 0; i < n_; ++i) {
      const int64_t at = i * kDeltaChunk;
      const F32x16 minusBeta = splat(-b_.beta[i]);
      const F32x16 own = splat(b_.total[i]);
      // Lanes past j = i are never read.
      for (int64_t j = 0; j <= i; j += kLanes) {
        const F32x16 weight = exp(sub(own, load(b_.total + j)));
        store(b_.system + at + j, mul(mul(minusBeta, load(b_.keyKey + at + j)), weight));
        store(b_.scores + at + j, mul(load(b_.queryKey + at + j), weight));
      }
    }
  }

  /** D of rows from `row`: beta (V - exp(G) K S), then forward substitution; D exp(last - G) takes the place of V. */
  void solveRows(int64_t row, const float* state, float* values) {
    DeltaTile acc;
    clearTile(acc);
    accumulate(acc, b_.k + row * b_.keyRow, b_.keyRow, 1, state, keyDim_);
    for (int m = 0; m < kTileRows; ++m) {
      const F32x16 beta = splat(b_.beta[row + m]);
      const F32x16 decay = splat(b_.decay[row + m]);
      for (int v = 0; v < kTileVecs; ++v)
        acc[m][v] = mul(beta, fnma(decay, acc[m][v], load(values + (row + m) * kPanel + v * kLanes)));
    }
    const float* const system = b_.system + row * kDeltaChunk;
    accumulate(acc, system, kDeltaChunk, 1, b_.delta, row);
    // Row r is final once the rows above have been taken in, and then goes into the rows below.
#pragma GCC unroll 8
    for (int r = 0; r + 1 < kTileRows; ++r) {
#pragma GCC unroll 8
      for (int m = r + 1; m < kTileRows; ++m) {
        const F32x16 factor = splat(system[m * kDeltaChunk + row + r]);
        for (int v = 0; v < kTileVecs; ++v) acc[m][v] = fma(factor, acc[r][v], acc[m][v]);
      }
    }
    storeTile(acc, b_.delta + row * kPanel);
    for (int m = 0; m < kTileRows; ++m) {
      const F32x16 rest = splat(b_.rest[row + m]);
      for (int v = 0; v < kTileVecs; ++v) store(values + (row + m) * kPanel + v * kLanes, mul(acc[m][v], rest));
    }
  }

  /** O of rows from `row`, whose D is there. */
  void multiplyRows(int64_t row, const float* state, float* out) {
    DeltaTile acc;
    clearTile(acc);
    accumulate(acc, b_.q + row * b_.keyRow, b_.keyRow, 1, state, keyDim_);
    for (int m = 0; m < kTileRows; ++m) {
      const F32x16 decay = splat(b_.decay[row + m]);
      for (int v = 0; v < kTileVecs; ++v) acc[m][v] = mul(acc[m][v], decay);
    }
    const float* const scores = b_.scores + row * kDeltaChunk;
    accumulate(acc, scores, kDeltaChunk, 1, b_.delta, row);
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r) {
      F32x16 delta[kTileVecs];
      for (int v = 0; v < kTileVecs; ++v) delta[v] = load(b_.delta + (row + r) * kPanel + v * kLanes);
#pragma GCC unroll 8
      for (int m = r; m < kTileRows; ++m) {
        const F32x16 factor = splat(scores[m * kDeltaChunk + row + r]);
        for (int v = 0; v < kTileVecs; ++v) acc[m][v] = fma(factor, delta[v], acc[m][v]);
      }
    }
    storeTile(acc, out + row * kPanel);
  }

  void advanceState(float* state, const float* values) {
    const F32x16 decay = splat(b_.decay[n_ - 1]);
    for (int64_t d = 0; d < keyDim_; d += kTileRows) {
      DeltaTile acc;
      loadTile(acc, state + d * kPanel);
      for (int m = 0; m < kTileRows; ++m) {
        for (int v = 0; v < kTileVecs; ++v) acc[m][v] = mul(acc[m][v], decay);
      }
      accumulate(acc, b_.k + d, 1, b_.keyRow, values, n_);
      storeTile(acc, state + d * kPanel);
    }
  }

  const DeltaBlock& b_;
  float* state_;
  int64_t n_;
  int64_t keyDim_;
  int64_t valueDim_;
};

/** S [keyDim][valueDim] of a head into panels. */
static void packState(const float* from, float* to, int64_t keyDim, int64_t valueDim, int64_t keyRow) {
  for (int64_t d = 0; d < keyDim; ++d, from += valueDim) {
    eachVector(valueDim, [=](int64_t c, Mask16 m) {
      store(to + c / kPanel * kPanel * keyRow + d * kPanel + c % kPanel, load(from + c, m));
    });
  }
}

static void unpackState(const float* from, float* to, int64_t keyDim, int64_t valueDim, int64_t keyRow) {
  for (int64_t d = 0; d < keyDim; ++d, to += valueDim) {
    eachVector(valueDim, [=](int64_t c, Mask16 m) {
      store(to + c, load(from + c / kPanel * kPanel * keyRow + d * kPanel + c % kPanel), m);
    });
  }
}

}  // namespace guildhall::GUILDHALL_ISA
