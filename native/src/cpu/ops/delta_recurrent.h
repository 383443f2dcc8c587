#pragma once

// The delta rule token by token. Columns of S are independent of each other, so neither their grouping nor the number of
// rows in a call changes a bit.

#include "delta_block.h"

namespace guildhall::GUILDHALL_ISA {

// Vectors of value columns that take one token together: as many sums as registers hold.
#if defined(GUILDHALL_ISA_AVX512)
constexpr int kStepVecs = 8;
#elif defined(GUILDHALL_ISA_AVX2)
constexpr int kStepVecs = 2;
#else
constexpr int kStepVecs = 1;
#endif
/** The same for several tokens: a slice of S of keyDim * 64 floats stays in the L1 cache. */
constexpr int kSliceVecs = 4;

/** NV vectors of value columns from `col` of one value head; `lanes` masks when Masked (then NV is 1). */
template <int NV, bool Masked>
class DeltaColumns {
 public:
  DeltaColumns(const DeltaBlock& block, float* state, int64_t keyDim, int64_t valueDim, int64_t col, Mask16 lanes)
      : b_(block), state_(state + col), keyDim_(keyDim), valueDim_(valueDim), col_(col), lanes_(lanes) {}

  /** Row 0 with S in place: read from memory once, and again from the cache while `next`, if any, is fetched. */
  void step(const float* next) const {
    const F32x16 decay = exp(splat(b_.g[0]));
    F32x16 delta[NV], o[NV];
    for (int v = 0; v < NV; ++v) delta[v] = zero();
    const float* from = state_;
    for (int64_t d = 0; d < keyDim_; ++d, from += valueDim_) {
      const F32x16 key = splat(b_.k[d]);
      for (int v = 0; v < NV; ++v) delta[v] = fma(key, mul(decay, read(from, v)), delta[v]);
    }
    finishDelta(0, delta);
    for (int v = 0; v < NV; ++v) o[v] = zero();
    float* at = state_;
    for (int64_t d = 0; d < keyDim_; ++d, at += valueDim_) {
      const F32x16 key = splat(b_.k[d]);
      const F32x16 query = splat(b_.q[d]);
      if (next != nullptr) {
        for (int v = 0; v < NV; ++v) __builtin_prefetch(next + col_ + d * valueDim_ + v * kLanes, 0, 2);
      }
      for (int v = 0; v < NV; ++v) {
        const F32x16 updated = fma(key, delta[v], mul(decay, read(at, v)));
        write(at, v, updated);
        o[v] = fma(query, updated, o[v]);
      }
    }
    storeOut(0, o);
  }

  /**
   * Rows [0, n). Between them the columns live in `slice` [keyDim][NV * 16]; S itself, whose rows would collide in the
   * cache, is read and written once.
   */
  void run(int64_t n, float* slice) const {
    for (int64_t t = 0; t < n; ++t) {
      const F32x16 decay = exp(splat(b_.g[t]));
      const float* from = t == 0 ? state_ : slice;
      const int64_t fromRow = t == 0 ? valueDim_ : kSliceRow;
      const float* k = b_.k + t * b_.keyRow;
      F32x16 delta[NV];
      for (int v = 0; v < NV; ++v) delta[v] = zero();
      for (int64_t d = 0; d < keyDim_; ++d) {
        const F32x16 key = splat(k[d]);
        for (int v = 0; v < NV; ++v) {
          const F32x16 decayed = mul(decay, read(from + d * fromRow, v));
          store(slice + d * kSliceRow + v * kLanes, decayed);
          delta[v] = fma(key, decayed, delta[v]);
        }
      }
      finishDelta(t, delta);
      update(t, delta, slice, t + 1 == n);
    }
  }

 private:
  static constexpr int64_t kSliceRow = NV * kLanes;

  F32x16 read(const float* p, int v) const { return Masked ? load(p + v * kLanes, lanes_) : load(p + v * kLanes); }
  void write(float* p, int v, F32x16 x) const { Masked ? store(p + v * kLanes, x, lanes_) : store(p + v * kLanes, x); }

  /** delta = beta (v - delta). */
  GH_INLINE void finishDelta(int64_t t, F32x16 (&delta)[NV]) const {
    const F32x16 beta = splat(b_.beta[t]);
    for (int v = 0; v < NV; ++v) {
      const F32x16 value = load(b_.values + DeltaBlock::at(t, col_ + v * kLanes));
      delta[v] = mul(beta, sub(value, delta[v]));
    }
  }

  GH_INLINE void storeOut(int64_t t, const F32x16 (&o)[NV]) const {
    for (int v = 0; v < NV; ++v) store(b_.out + DeltaBlock::at(t, col_ + v * kLanes), o[v]);
  }

  /** Adds k delta^T to the decayed columns and takes row t of the output; the last row leaves them in S. */
  GH_INLINE void update(int64_t t, const F32x16 (&delta)[NV], float* slice, bool last) const {
    const float* k = b_.k + t * b_.keyRow;
    const float* q = b_.q + t * b_.keyRow;
    F32x16 o[NV];
    for (int v = 0; v < NV; ++v) o[v] = zero();
    for (int64_t d = 0; d < keyDim_; ++d) {
      const F32x16 key = splat(k[d]);
      const F32x16 query = splat(q[d]);
      for (int v = 0; v < NV; ++v) {
        float* const at = slice + d * kSliceRow + v * kLanes;
        const F32x16 next = fma(key, delta[v], load(at));
        last ? write(state_ + d * valueDim_, v, next) : store(at, next);
        o[v] = fma(query, next, o[v]);
      }
    }
    storeOut(t, o);
  }

  const DeltaBlock& b_;
  float* state_;
  int64_t keyDim_;
  int64_t valueDim_;
  int64_t col_;
  Mask16 lanes_;
};

/** f(columns) for all value columns in groups of NV vectors, then one, then the rest. */
template <int NV, typename F>
static GH_INLINE void eachColumns(const DeltaBlock& b, float* state, int64_t keyDim, int64_t valueDim, F f) {
  int64_t col = 0;
  for (; col + NV * kLanes <= valueDim; col += NV * kLanes)
    f(DeltaColumns<NV, false>(b, state, keyDim, valueDim, col, 0xffffu));
  for (; col + kLanes <= valueDim; col += kLanes) f(DeltaColumns<1, false>(b, state, keyDim, valueDim, col, 0xffffu));
  if (col < valueDim) f(DeltaColumns<1, true>(b, state, keyDim, valueDim, col, firstLanes(valueDim - col)));
}

/** Rows [0, n) of the block for a value head with S at `state`; `next` is the S that this thread will want next, or null. */
static void recurrentRows(const DeltaBlock& b, float* state, int64_t n, int64_t keyDim, int64_t valueDim,
                          const float* next) {
  if (n == 1) {
    eachColumns<kStepVecs>(b, state, keyDim, valueDim, [=](const auto& columns) { columns.step(next); });
  } else {
    float* const slice = b.state;
    eachColumns<kSliceVecs>(b, state, keyDim, valueDim, [=](const auto& columns) { columns.run(n, slice); });
  }
}

}  // namespace guildhall::GUILDHALL_ISA
