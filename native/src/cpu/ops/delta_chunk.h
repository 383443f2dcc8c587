#pragma once

// One chunk of the delta rule: what depends on the key head only, then a value head. Formulas in gated_delta_net.h.

#include "delta_scratch.h"
#include "guildhall/ops/gated_delta_net.h"
#include "tile.h"

namespace guildhall::GUILDHALL_ISA {

/** One value head of one sequence: pointers at the sequence's first row. */
struct DeltaHead {
  const float* q;
  const float* k;
  const float* v;
  const float* beta;
  const float* g;
  float* out;
  float* state;
  int64_t rows;
};

static GH_INLINE DeltaHead deltaHead(const DeltaRuleArgs& args, int64_t seq, int64_t head) {
  const int64_t row = args.batch.rowStart[seq];
  const int64_t keyHead = head / (args.numValueHeads / args.numKeyHeads);
  return {
      args.q + row * args.qRowStride + keyHead * args.keyDim,
      args.k + row * args.kRowStride + keyHead * args.keyDim,
      args.v + row * args.vRowStride + head * args.valueDim,
      args.beta + row * args.numValueHeads + head,
      args.g + row * args.numValueHeads + head,
      args.out + row * args.outRowStride + head * args.valueDim,
      args.state + args.batch.stateSlot[seq] * args.stateStride + head * args.keyDim * args.valueDim,
      args.batch.rowCount[seq],
  };
}

/** One thread's buffers for a chunk. */
struct ChunkBuffers {
  /** K transposed, [Dk][64]; columns past the chunk's rows are zero up to a whole vector. */
  float* keysT;
  /** K K^T and Q K^T, [64][64]. */
  float* keyKey;
  float* queryKey;
  /** Of one value head: the negated lower triangle of the system, and Q K^T times the decays; [64][64]. */
  float* system;
  float* scores;
  /** D and O, [64][padded Dv]. */
  float* delta;
  float* out;
  /** cumsum(g), exp of it, exp(last - it), [64] each. */
  float* total;
  float* decay;
  float* rest;
  int64_t valueRow;

  ChunkBuffers(float* base, int64_t keyDim, int64_t valueDim) : valueRow(roundUp(valueDim, kLanes)) {
    constexpr int64_t kSquare = kDeltaChunk * kDeltaChunk;
    keysT = base;
    keyKey = keysT + keyDim * kDeltaChunk;
    queryKey = keyKey + kSquare;
    system = queryKey + kSquare;
    scores = system + kSquare;
    delta = scores + kSquare;
    out = delta + kDeltaChunk * valueRow;
    total = out + kDeltaChunk * valueRow;
    decay = total + kDeltaChunk;
    rest = decay + kDeltaChunk;
  }
};

/** Rows [start, start + n) of a key head. */
class KeyChunk {
 public:
  KeyChunk(const DeltaRuleArgs& args, const DeltaHead& head, int64_t start, int64_t n, const ChunkBuffers& buffers)
      : args_(args), buf_(buffers), q_(head.q + start * args.qRowStride), k_(head.k + start * args.kRowStride), n_(n) {}

  void prepare() {
    transposeKeys();
    const int64_t depth = args_.keyDim;
    // Row i needs columns up to i: whole stripes of rows share a width.
    for (int64_t row = 0; row < n_; row += kLanes) {
      const int64_t rows = minInt(kLanes, n_ - row);
      const int64_t at = row * kDeltaChunk;
      multiply<Start::Zero>(
          {k_ + row * args_.kRowStride, args_.kRowStride, 1, buf_.keysT, kDeltaChunk, buf_.keyKey + at, kDeltaChunk}, rows,
          row + kLanes, [=](int64_t) { return depth; });
      multiply<Start::Zero>(
          {q_ + row * args_.qRowStride, args_.qRowStride, 1, buf_.keysT, kDeltaChunk, buf_.queryKey + at, kDeltaChunk}, rows,
          row + kLanes, [=](int64_t) { return depth; });
    }
  }

 private:
  void transposeKeys() {
    const int64_t padded = roundUp(n_, kLanes);
    for (int64_t i = 0; i < n_; ++i) {
      const float* row = k_ + i * args_.kRowStride;
      for (int64_t d = 0; d < args_.keyDim; ++d) buf_.keysT[d * kDeltaChunk + i] = row[d];
    }
    for (int64_t i = n_; i < padded; ++i) {
      for (int64_t d = 0; d < args_.keyDim; ++d) buf_.keysT[d * kDeltaChunk + i] = 0.0f;
    }
  }

  const DeltaRuleArgs& args_;
  const ChunkBuffers& buf_;
  const float* q_;
  const float* k_;
  int64_t n_;
};

/** The same rows of one value head, after KeyChunk::prepare of its key head. */
class ValueChunk {
 public:
  ValueChunk(const DeltaRuleArgs& args, const DeltaHead& head, int64_t start, int64_t n, const ChunkBuffers& buffers)
      : args_(args), h_(head), buf_(buffers), start_(start), n_(n) {}

  void run() {
    accumulateDecays();
    applyDecays();
    solveDelta();
    writeOutput();
    advanceState();
  }

 private:
  const float* q() const { return h_.q + start_ * args_.qRowStride; }
  const float* k() const { return h_.k + start_ * args_.kRowStride; }
  float beta(int64_t i) const { return h_.beta[(start_ + i) * args_.numValueHeads]; }

  void accumulateDecays() {
    float total = 0.0f;
    for (int64_t i = 0; i < n_; ++i) {
      total += h_.g[(start_ + i) * args_.numValueHeads];
      buf_.total[i] = total;
    }
    const F32x16 last = splat(total);
    eachVector(n_, [&](int64_t i, Mask16 m) {
      const F32x16 g = load(buf_.total + i, m);
      store(buf_.decay + i, exp(g), m);
      store(buf_.rest + i, exp(sub(last, g)), m);
    });
  }

  /** system[i][j] = -beta_i (k_i . k_j) exp(G_i - G_j) for j < i, scores[i][j] = (q_i . k_j) exp(G_i - G_j) for j <= i. */
  void applyDecays() {
    for (int64_t i = 0; i < n_; ++i) {
      const int64_t at = i * kDeltaChunk;
      const F32x16 minusBeta = splat(-beta(i));
      const F32x16 own = splat(buf_.total[i]);
      eachVector(i + 1, [&](int64_t j, Mask16 m) {
        const F32x16 weight = exp(sub(own, load(buf_.total + j, m)));
        store(buf_.system + at + j, mul(mul(minusBeta, load(buf_.keyKey + at + j, m)), weight), m);
        store(buf_.scores + at + j, mul(load(buf_.queryKey + at + j, m), weight), m);
      });
    }
  }

  /** delta = beta (V - exp(G) K S), then forward substitution. */
  void solveDelta() {
    const int64_t depth = args_.keyDim;
    const int64_t width = args_.valueDim;
    multiply<Start::Zero>({k(), args_.kRowStride, 1, h_.state, width, buf_.delta, buf_.valueRow}, n_, width,
                          [=](int64_t) { return depth; });
    for (int64_t i = 0; i < n_; ++i) {
      const float* v = h_.v + (start_ + i) * args_.vRowStride;
      float* d = buf_.delta + i * buf_.valueRow;
      const F32x16 b = splat(beta(i));
      const F32x16 decay = splat(buf_.decay[i]);
      eachVector(width, [=](int64_t c, Mask16 m) { store(d + c, mul(b, fnma(decay, load(d + c, m), load(v + c, m))), m); });
    }
    multiply<Start::Keep>({buf_.system, kDeltaChunk, 1, buf_.delta, buf_.valueRow, buf_.delta, buf_.valueRow}, n_, width,
                          [](int64_t m) { return m; });
  }

  /** Rows of `out` are far apart and may collide in the cache, so they are written once. */
  void writeOutput() {
    const int64_t depth = args_.keyDim;
    const int64_t width = args_.valueDim;
    multiply<Start::Zero>({q(), args_.qRowStride, 1, h_.state, width, buf_.out, buf_.valueRow}, n_, width,
                          [=](int64_t) { return depth; });
    multiply<Start::Scaled>({buf_.scores, kDeltaChunk, 1, buf_.delta, buf_.valueRow, buf_.out, buf_.valueRow, buf_.decay},
                            n_, width, [](int64_t m) { return m + 1; });
    for (int64_t i = 0; i < n_; ++i) {
      const float* from = buf_.out + i * buf_.valueRow;
      float* to = h_.out + (start_ + i) * args_.outRowStride;
      eachVector(width, [=](int64_t c, Mask16 m) { store(to + c, load(from + c, m), m); });
    }
  }

  void advanceState() {
    const int64_t width = args_.valueDim;
    for (int64_t i = 0; i < n_; ++i) {
      float* d = buf_.delta + i * buf_.valueRow;
      const F32x16 rest = splat(buf_.rest[i]);
      eachVector(width, [=](int64_t c, Mask16 m) { store(d + c, mul(load(d + c, m), rest), m); });
    }
    const int64_t n = n_;
    multiply<Start::Scaled>({buf_.keysT, kDeltaChunk, 1, buf_.delta, buf_.valueRow, h_.state, width, buf_.decay + n - 1, 0},
                            args_.keyDim, width, [n](int64_t) { return n; });
  }

  const DeltaRuleArgs& args_;
  const DeltaHead h_;
  const ChunkBuffers& buf_;
  int64_t start_;
  int64_t n_;
};

}  // namespace guildhall::GUILDHALL_ISA
