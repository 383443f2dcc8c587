// The gated delta rule: who runs which heads, and the form that goes token by token. The chunked form is in delta_chunk.h,
// the formulas in gated_delta_net.h.

#include "delta_chunk.h"
#include "kernels.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/** Vectors of value columns that go through the rows together: a slice of S of keyDim * 64 floats stays in L1. */
constexpr int kSliceVecs = 4;

/**
 * All rows over NV vectors of value columns from `col`: columns of S are independent of each other. Between the rows the
 * slice lives in `slice` [keyDim][NV * 16]; S itself, whose rows would collide in the cache, is read and written once.
 */
template <int NV, bool Masked>
void recurrentColumns(const DeltaRuleArgs& args, const DeltaHead& h, float* slice, int64_t col, Mask16 lanes) {
  const auto read = [=](const float* p, int v) { return Masked ? load(p + v * kLanes, lanes) : load(p + v * kLanes); };
  const auto write = [=](float* p, int v, F32x16 x) { Masked ? store(p + v * kLanes, x, lanes) : store(p + v * kLanes, x); };
  constexpr int64_t kSliceRow = NV * kLanes;
  for (int64_t t = 0; t < h.rows; ++t) {
    const float* q = h.q + t * args.qRowStride;
    const float* k = h.k + t * args.kRowStride;
    const F32x16 decay = exp(splat(h.g[t * args.numValueHeads]));
    const F32x16 beta = splat(h.beta[t * args.numValueHeads]);
    const float* from = t == 0 ? h.state + col : slice;
    const int64_t fromRow = t == 0 ? args.valueDim : kSliceRow;
    F32x16 delta[NV], o[NV];
    for (int v = 0; v < NV; ++v) delta[v] = zero();
    for (int64_t d = 0; d < args.keyDim; ++d) {
      const F32x16 key = splat(k[d]);
      for (int v = 0; v < NV; ++v) {
        const F32x16 decayed = mul(decay, read(from + d * fromRow, v));
        store(slice + d * kSliceRow + v * kLanes, decayed);
        delta[v] = fma(key, decayed, delta[v]);
      }
    }
    const float* value = h.v + t * args.vRowStride + col;
    for (int v = 0; v < NV; ++v) {
      delta[v] = mul(beta, sub(read(value, v), delta[v]));
      o[v] = zero();
    }
    const bool last = t + 1 == h.rows;
    for (int64_t d = 0; d < args.keyDim; ++d) {
      const F32x16 key = splat(k[d]);
      const F32x16 query = splat(q[d]);
      for (int v = 0; v < NV; ++v) {
        float* const at = slice + d * kSliceRow + v * kLanes;
        const F32x16 next = fma(key, delta[v], load(at));
        last ? write(h.state + d * args.valueDim + col, v, next) : store(at, next);
        o[v] = fma(query, next, o[v]);
      }
    }
    for (int v = 0; v < NV; ++v) write(h.out + t * args.outRowStride + col, v, o[v]);
  }
}

void recurrentHead(const DeltaRuleArgs& args, const DeltaHead& h, float* slice) {
  int64_t col = 0;
  for (; col + kSliceVecs * kLanes <= args.valueDim; col += kSliceVecs * kLanes)
    recurrentColumns<kSliceVecs, false>(args, h, slice, col, 0xffffu);
  for (; col + kLanes <= args.valueDim; col += kLanes) recurrentColumns<1, false>(args, h, slice, col, 0xffffu);
  if (col < args.valueDim) recurrentColumns<1, true>(args, h, slice, col, firstLanes(args.valueDim - col));
}

/** Value heads [first, first + count) of one sequence, which share a key head. */
void runHeads(const DeltaRuleArgs& args, int64_t seq, int64_t first, int64_t count, float* scratch) {
  const int64_t rows = args.batch.rowCount[seq];
  if (args.batch.mode[seq] == kModeRecurrent) {
    for (int64_t h = first; h < first + count; ++h) recurrentHead(args, deltaHead(args, seq, h), scratch);
    return;
  }
  const ChunkBuffers buffers(scratch, args.keyDim, args.valueDim);
  for (int64_t start = 0; start < rows; start += kDeltaChunk) {
    const int64_t n = minInt(kDeltaChunk, rows - start);
    KeyChunk(args, deltaHead(args, seq, first), start, n, buffers).prepare();
    for (int64_t h = first; h < first + count; ++h) ValueChunk(args, deltaHead(args, seq, h), start, n, buffers).run();
  }
}

}  // namespace

void deltaRule(ParallelFor& par, const DeltaRuleArgs& args) {
  const int64_t stride = deltaThreadFloats(args.keyDim, args.valueDim);
  // Products of keys are shared by the value heads of a key head, unless that leaves threads without work.
  const int64_t perKey = args.numValueHeads / args.numKeyHeads;
  const int64_t together = args.batch.numSeqs * args.numKeyHeads >= 2 * par.threads() ? perKey : 1;
  const int64_t groups = args.numValueHeads / together;
  par.run(args.batch.numSeqs * groups, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t seq = task / groups;
      if (args.batch.stateSlot[seq] < 0) continue;
      runHeads(args, seq, task % groups * together, together, args.scratch + thread * stride);
    }
  });
}

}  // namespace guildhall::GUILDHALL_ISA
