#pragma once

// What happens to the rows of a block before and after the delta rule: convolution, norms, gates.

#include "delta_block.h"

namespace guildhall::GUILDHALL_ISA {

/**
 * Rows of the projections are far apart, where the processor does not fetch ahead by itself: asks for `width` columns of a
 * row that comes this many rows later.
 */
constexpr int64_t kRowsAhead = 6;

static GH_INLINE void fetchRow(const float* row, int64_t width) {
  for (int64_t c = 0; c < width; c += kLanes) __builtin_prefetch(row + c);
}

static void copyFloats(const float* from, float* to, int64_t n) {
  eachVector(n, [=](int64_t i, Mask16 m) { store(to + i, load(from + i, m), m); });
}

static void clearFloats(float* to, int64_t n) {
  eachVector(n, [=](int64_t i, Mask16 m) { store(to + i, zero(), m); });
}

/**
 * Rows [start, start + n) convolved over channels [first, first + width): element (row, column) goes to
 * target + place(row, column). Kernel is known at compile time, or 0.
 */
template <int Kernel, typename Place>
static GH_INLINE void convolveAs(const DeltaSequence& s, int64_t start, int64_t n, int64_t first, int64_t width,
                                 float* target, Place place) {
  constexpr int64_t kMaxKernel = 8;
  const int64_t kernel = Kernel != 0 ? Kernel : s.args.convKernel;
  const int64_t channels = s.args.shape.channels();
  const float* const weight = s.args.convWeight + first;
  for (int64_t t = 0; t < n; ++t) {
    const float* taps[kMaxKernel];
    for (int64_t j = 0; j < kernel; ++j) taps[j] = s.rawRow(start + t - kernel + 1 + j) + first;
    if (t + kRowsAhead < n) fetchRow(s.rawRow(start + t + kRowsAhead) + first, width);
    eachVector(width, [&](int64_t c, Mask16 m) {
      F32x16 acc = mul(load(weight + c, m), load(taps[0] + c, m));
      for (int64_t j = 1; j < kernel; ++j) acc = fma(load(weight + j * channels + c, m), load(taps[j] + c, m), acc);
      store(target + place(t, c), silu(acc), m);
    });
  }
}

template <typename Place>
static void convolve(const DeltaSequence& s, int64_t start, int64_t n, int64_t first, int64_t width, float* target,
                     Place place) {
  if (s.args.convKernel == 4) {
    convolveAs<4>(s, start, n, first, width, target, place);
  } else {
    convolveAs<0>(s, start, n, first, width, target, place);
  }
}

/** Channels [first, first + width) of the last raw rows before row `end` into `conv`. */
static void keepRawRows(const DeltaSequence& s, float* conv, int64_t end, int64_t first, int64_t width) {
  const int64_t past = s.args.convKernel - 1;
  // Oldest first: row j only reads rows at or after it, which are still unchanged where `conv` is what is read.
  for (int64_t j = 0; j < past; ++j) {
    const float* from = s.rawRow(end - past + j) + first;
    float* to = conv + j * s.args.shape.channels() + first;
    if (from != to) copyFloats(from, to, width);
  }
}

/** The snapshot and then the state, which the former may still read, take these channels. */
static void advanceConvState(const DeltaSequence& s, int64_t first, int64_t width) {
  if (s.snapshotRows > 0) keepRawRows(s, s.snapshot.conv, s.snapshotRows, first, width);
  keepRawRows(s, s.own.conv, s.rows, first, width);
}

/** x[row] *= scale / sqrt(sum(x[row]^2) + eps). */
static void l2NormRows(float* x, int64_t rowStride, int64_t n, int64_t dim, float eps, float scale) {
  const F32x16 factor = splat(scale);
  for (int64_t t = 0; t < n; ++t, x += rowStride) {
    const F32x16 inverse = splat(1.0f / __builtin_sqrtf(sumSquares(x, dim) + eps));
    eachVector(dim, [=](int64_t i, Mask16 m) { store(x + i, mul(mul(load(x + i, m), inverse), factor), m); });
  }
}

/** q and k of a key head, convolved and normalised. */
static void prepareKeys(const DeltaSequence& s, const DeltaBlock& b, int64_t keyHead, int64_t start, int64_t n) {
  const int64_t dim = s.args.shape.keyDim, stride = b.keyRow;
  const auto place = [=](int64_t t, int64_t c) { return t * stride + c; };
  convolve(s, start, n, s.queryColumn(keyHead), dim, b.q, place);
  convolve(s, start, n, s.keyColumn(keyHead), dim, b.k, place);
  l2NormRows(b.q, stride, n, dim, s.args.l2Eps, static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(dim))));
  l2NormRows(b.k, stride, n, dim, s.args.l2Eps, 1.0f);
}

/** v of a value head, convolved, and its gates. */
static void prepareValues(const DeltaSequence& s, const DeltaBlock& b, int64_t head, int64_t start, int64_t n) {
  convolve(s, start, n, s.valueColumn(head), s.args.shape.valueDim, b.values,
           [](int64_t t, int64_t c) { return DeltaBlock::at(t, c); });
  const float* scalars = s.x + start * s.args.xRowStride + s.scalarColumn() + head;
  for (int64_t t = 0; t < n; ++t, scalars += s.args.xRowStride) {
    b.beta[t] = scalars[0];
    b.g[t] = scalars[s.args.shape.numValueHeads];
  }
  const F32x16 rate = exp(splat(s.args.aLog[head]));
  const F32x16 bias = splat(s.args.dtBias[head]);
  eachVector(n, [&](int64_t i, Mask16 m) {
    store(b.beta + i, sigmoid(load(b.beta + i, m)), m);
    store(b.g + i, negate(mul(rate, softplus(add(load(b.g + i, m), bias)))), m);
  });
}

/** O of a value head through the gated norm, into the caller's rows. */
static void finishRows(const DeltaSequence& s, const DeltaBlock& b, int64_t head, int64_t start, int64_t n) {
  const int64_t dim = s.args.shape.valueDim;
  const float* const w = s.args.normWeight;
  for (int64_t t = 0; t < n; ++t) {
    const float* z = s.x + (start + t) * s.args.xRowStride + s.gateColumn(head);
    float* out = s.out + (start + t) * s.args.outRowStride + head * dim;
    if (t + kRowsAhead < n) fetchRow(z + kRowsAhead * s.args.xRowStride, dim);
    const float square = sumOver(dim, [&](int64_t i, Mask16 m, F32x16 acc) {
      const F32x16 v = load(b.out + DeltaBlock::at(t, i), m);
      return fma(v, v, acc);
    });
    const F32x16 inverse = splat(1.0f / __builtin_sqrtf(square / static_cast<float>(dim) + s.args.normEps));
    eachVector(dim, [&](int64_t i, Mask16 m) {
      const F32x16 normed = mul(load(w + i, m), mul(load(b.out + DeltaBlock::at(t, i), m), inverse));
      store(out + i, mul(normed, silu(load(z + i, m))), m);
    });
  }
}

}  // namespace guildhall::GUILDHALL_ISA
