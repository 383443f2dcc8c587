// The gated delta rule, token by token and in chunks of 64; formulas in gated_delta_net.h.

#include "delta_scratch.h"
#include "kernels.h"
#include "tile.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/** One value head of one sequence: pointers at its first row. */
struct Head {
  const float* q;
  const float* k;
  const float* v;
  const float* beta;
  const float* g;
  float* out;
  float* state;
  int64_t rows;
};

Head headOf(const DeltaRuleArgs& args, int64_t seq, int64_t head) {
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

/** All rows over NV vectors of value columns from `col`: columns of S are independent of each other. */
template <int NV, bool Masked>
void recurrentColumns(const DeltaRuleArgs& args, const Head& h, int64_t col, Mask16 lanes) {
  const auto read = [=](const float* p, int v) { return Masked ? load(p + v * kLanes, lanes) : load(p + v * kLanes); };
  const auto write = [=](float* p, int v, F32x16 x) { Masked ? store(p + v * kLanes, x, lanes) : store(p + v * kLanes, x); };
  for (int64_t t = 0; t < h.rows; ++t) {
    const float* q = h.q + t * args.qRowStride;
    const float* k = h.k + t * args.kRowStride;
    const F32x16 decay = exp(splat(h.g[t * args.numValueHeads]));
    const F32x16 beta = splat(h.beta[t * args.numValueHeads]);
    F32x16 delta[NV], o[NV];
    for (int v = 0; v < NV; ++v) delta[v] = zero();
    for (int64_t d = 0; d < args.keyDim; ++d) {
      const float* s = h.state + d * args.valueDim + col;
      const F32x16 key = splat(k[d]);
      for (int v = 0; v < NV; ++v) delta[v] = fma(key, mul(decay, read(s, v)), delta[v]);
    }
    const float* value = h.v + t * args.vRowStride + col;
    for (int v = 0; v < NV; ++v) {
      delta[v] = mul(beta, sub(read(value, v), delta[v]));
      o[v] = zero();
    }
    for (int64_t d = 0; d < args.keyDim; ++d) {
      float* s = h.state + d * args.valueDim + col;
      const F32x16 key = splat(k[d]);
      const F32x16 query = splat(q[d]);
      for (int v = 0; v < NV; ++v) {
        const F32x16 next = fma(key, delta[v], mul(decay, read(s, v)));
        write(s, v, next);
        o[v] = fma(query, next, o[v]);
      }
    }
    for (int v = 0; v < NV; ++v) write(h.out + t * args.outRowStride + col, v, o[v]);
  }
}

void recurrentHead(const DeltaRuleArgs& args, const Head& h) {
  int64_t col = 0;
  for (; col + 4 * kLanes <= args.valueDim; col += 4 * kLanes) recurrentColumns<4, false>(args, h, col, 0xffffu);
  for (; col + kLanes <= args.valueDim; col += kLanes) recurrentColumns<1, false>(args, h, col, 0xffffu);
  if (col < args.valueDim) recurrentColumns<1, true>(args, h, col, firstLanes(args.valueDim - col));
}

/** One thread's buffers for a chunk. */
struct ChunkBuffers {
  /** K transposed, [Dk][64]; columns past the chunk's rows are zero up to a whole vector. */
  float* keysT;
  /** First K K^T, then the negated lower triangle of the system; [64][64]. */
  float* system;
  /** First Q K^T, then times the decays; [64][64]. */
  float* scores;
  /** D, [64][padded Dv]. */
  float* delta;
  /** cumsum(g), exp of it, exp(last - it), [64] each. */
  float* total;
  float* decay;
  float* rest;
  int64_t deltaRow;

  ChunkBuffers(float* base, int64_t keyDim, int64_t valueDim) : deltaRow(roundUp(valueDim, kLanes)) {
    keysT = base;
    system = keysT + keyDim * kDeltaChunk;
    scores = system + kDeltaChunk * kDeltaChunk;
    delta = scores + kDeltaChunk * kDeltaChunk;
    total = delta + kDeltaChunk * deltaRow;
    decay = total + kDeltaChunk;
    rest = decay + kDeltaChunk;
  }
};

class Chunk {
 public:
  Chunk(const DeltaRuleArgs& args, const Head& head, int64_t start, const ChunkBuffers& buffers)
      : args_(args), h_(head), buf_(buffers), start_(start), n_(minInt(kDeltaChunk, head.rows - start)) {}

  void run() {
    accumulateDecays();
    transposeKeys();
    decayedProducts();
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

  void transposeKeys() {
    const int64_t padded = roundUp(n_, kLanes);
    for (int64_t i = 0; i < n_; ++i) {
      const float* row = k() + i * args_.kRowStride;
      for (int64_t d = 0; d < args_.keyDim; ++d) buf_.keysT[d * kDeltaChunk + i] = row[d];
    }
    for (int64_t i = n_; i < padded; ++i) {
      for (int64_t d = 0; d < args_.keyDim; ++d) buf_.keysT[d * kDeltaChunk + i] = 0.0f;
    }
  }

  /** system[i][j] = -beta_i (k_i . k_j) exp(G_i - G_j) for j < i, scores[i][j] = (q_i . k_j) exp(G_i - G_j) for j <= i. */
  void decayedProducts() {
    const int64_t depth = args_.keyDim;
    const int64_t cols = roundUp(n_, kLanes);
    multiply<Start::Zero>({k(), args_.kRowStride, 1, buf_.keysT, kDeltaChunk, buf_.system, kDeltaChunk}, n_, cols, [=](int64_t) { return depth; });
    multiply<Start::Zero>({q(), args_.qRowStride, 1, buf_.keysT, kDeltaChunk, buf_.scores, kDeltaChunk}, n_, cols, [=](int64_t) { return depth; });
    for (int64_t i = 0; i < n_; ++i) {
      float* system = buf_.system + i * kDeltaChunk;
      float* scores = buf_.scores + i * kDeltaChunk;
      const F32x16 minusBeta = splat(-beta(i));
      const F32x16 at = splat(buf_.total[i]);
      eachVector(i + 1, [&](int64_t j, Mask16 m) {
        const F32x16 weight = exp(sub(at, load(buf_.total + j, m)));
        store(system + j, mul(mul(minusBeta, load(system + j, m)), weight), m);
        store(scores + j, mul(load(scores + j, m), weight), m);
      });
    }
  }

  /** delta = beta (V - exp(G) K S), then forward substitution. */
  void solveDelta() {
    const int64_t depth = args_.keyDim;
    const int64_t width = args_.valueDim;
    multiply<Start::Zero>({k(), args_.kRowStride, 1, h_.state, width, buf_.delta, buf_.deltaRow}, n_, width, [=](int64_t) { return depth; });
    for (int64_t i = 0; i < n_; ++i) {
      const float* v = h_.v + (start_ + i) * args_.vRowStride;
      float* d = buf_.delta + i * buf_.deltaRow;
      const F32x16 b = splat(beta(i));
      const F32x16 decay = splat(buf_.decay[i]);
      eachVector(width, [=](int64_t c, Mask16 m) { store(d + c, mul(b, fnma(decay, load(d + c, m), load(v + c, m))), m); });
    }
    multiply<Start::Keep>({buf_.system, kDeltaChunk, 1, buf_.delta, buf_.deltaRow, buf_.delta, buf_.deltaRow}, n_, width, [](int64_t m) { return m; });
  }

  void writeOutput() {
    const int64_t depth = args_.keyDim;
    const int64_t width = args_.valueDim;
    float* out = h_.out + start_ * args_.outRowStride;
    multiply<Start::Zero>({q(), args_.qRowStride, 1, h_.state, width, out, args_.outRowStride}, n_, width, [=](int64_t) { return depth; });
    multiply<Start::Scaled>({buf_.scores, kDeltaChunk, 1, buf_.delta, buf_.deltaRow, out, args_.outRowStride, buf_.decay}, n_, width,
                            [](int64_t m) { return m + 1; });
  }

  void advanceState() {
    const int64_t width = args_.valueDim;
    for (int64_t i = 0; i < n_; ++i) {
      float* d = buf_.delta + i * buf_.deltaRow;
      const F32x16 rest = splat(buf_.rest[i]);
      eachVector(width, [=](int64_t c, Mask16 m) { store(d + c, mul(load(d + c, m), rest), m); });
    }
    const int64_t n = n_;
    multiply<Start::Scaled>({buf_.keysT, kDeltaChunk, 1, buf_.delta, buf_.deltaRow, h_.state, width, buf_.decay + n - 1, 0}, args_.keyDim, width,
                            [n](int64_t) { return n; });
  }

  const DeltaRuleArgs& args_;
  const Head& h_;
  const ChunkBuffers& buf_;
  int64_t start_;
  int64_t n_;
};

}  // namespace

void deltaRule(ParallelFor& par, const DeltaRuleArgs& args) {
  const int64_t stride = deltaThreadFloats(args.keyDim, args.valueDim);
  par.run(args.batch.numSeqs * args.numValueHeads, [&](int64_t begin, int64_t end, int thread) {
    const ChunkBuffers buffers(args.scratch + thread * stride, args.keyDim, args.valueDim);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t seq = task / args.numValueHeads;
      if (args.batch.stateSlot[seq] < 0) continue;
      const Head head = headOf(args, seq, task % args.numValueHeads);
      if (args.batch.mode[seq] == kModeRecurrent) {
        recurrentHead(args, head);
        continue;
      }
      for (int64_t start = 0; start < head.rows; start += kDeltaChunk) Chunk(args, head, start, buffers).run();
    }
  });
}

}  // namespace guildhall::GUILDHALL_ISA
