#pragma once

// Sequences of inputs to the delta net between its projections, run in pieces over a pool of states.

#include <algorithm>
#include <limits>
#include <vector>

#include "check.h"

namespace guildhall::test {

/** Pieces of sequences over one state pool; sequence i uses slot 2 * i + 1, and -1 has none. */
struct Piece {
  int64_t seq;
  int64_t from;
  int64_t to;
  int32_t mode = kModeChunked;
  int32_t init = kInitOwn;
  int32_t snapshotSlot = -1;
  int32_t snapshotRows = 0;
};

struct BatchArrays {
  std::vector<int32_t> rowStart, rowCount, context, slot, mode, init, snapshotSlot, snapshotRows;
  int64_t rows = 0;

  explicit BatchArrays(const std::vector<Piece>& pieces) {
    for (const Piece& p : pieces) {
      rowStart.push_back(static_cast<int32_t>(rows + 1));
      rowCount.push_back(static_cast<int32_t>(p.to - p.from));
      context.push_back(static_cast<int32_t>(p.from));
      slot.push_back(static_cast<int32_t>(2 * p.seq + 1));
      mode.push_back(p.mode);
      init.push_back(p.init);
      snapshotSlot.push_back(p.snapshotSlot);
      snapshotRows.push_back(p.snapshotRows);
      rows += p.to - p.from + 2;
    }
  }
  BatchView view() const {
    return {.numSeqs = static_cast<int32_t>(rowStart.size()),
            .rowStart = rowStart.data(),
            .rowCount = rowCount.data(),
            .contextLen = context.data(),
            .stateSlot = slot.data(),
            .initState = init.data(),
            .snapshotSlot = snapshotSlot.data(),
            .snapshotRows = snapshotRows.data(),
            .mode = mode.data()};
  }
  /** Rows of the pieces out of per-sequence arrays [tokens][width], at a stride. */
  Floats gather(const std::vector<Piece>& pieces, const std::vector<Floats>& from, int64_t width, int64_t stride) const {
    Floats out(static_cast<size_t>((rows + 1) * stride), std::numeric_limits<float>::quiet_NaN());
    for (size_t i = 0; i < pieces.size(); ++i) {
      for (int64_t r = 0; r < rowCount[i]; ++r) {
        std::copy_n(from[static_cast<size_t>(std::max<int64_t>(pieces[i].seq, 0))].begin() + (pieces[i].from + r) * width, width,
                    out.begin() + (rowStart[i] + r) * stride);
      }
    }
    return out;
  }
  Floats scatter(const Floats& from, int64_t width, int64_t stride) const {
    Floats out;
    for (size_t i = 0; i < rowStart.size(); ++i) {
      for (int64_t r = 0; r < rowCount[i]; ++r) {
        const float* row = from.data() + (rowStart[i] + r) * stride;
        out.insert(out.end(), row, row + width);
      }
    }
    return out;
  }
};

/** Sequences of inputs, weights and a state pool of slots, of which sequence i has 2 * i + 1. */
struct Net {
  DeltaNetShape s;
  int64_t kernel;
  std::vector<int64_t> lengths;
  std::vector<Floats> x;
  Floats weight, aLog, dtBias, norm;
  Floats initial;
  Floats state;

  /** `forgetting`: about -g of a token. */
  Net(DeltaNetShape shape, std::vector<int64_t> tokens, float forgetting = 0.3f, int64_t convKernel = 4)
      : s(shape), kernel(convKernel), lengths(std::move(tokens)) {
    Random random(static_cast<uint64_t>(s.keyDim * 100 + s.valueDim + s.numValueHeads + kernel));
    for (const int64_t n : lengths) x.push_back(random.normals(n * width()));
    weight = random.normals(kernel * s.channels(), 0.7f);
    dtBias = random.normals(s.numValueHeads);
    aLog = random.normals(s.numValueHeads, 0.3f);
    for (float& a : aLog) a += std::log(forgetting);
    norm = random.normals(s.valueDim);
    initial = random.normals(slotFloats() * static_cast<int64_t>(2 * lengths.size() + 1), 0.1f);
    state = initial;
  }
  int64_t valueWidth() const { return s.numValueHeads * s.valueDim; }
  int64_t width() const { return s.channels() + valueWidth() + 2 * s.numValueHeads; }
  int64_t deltaFloats() const { return s.numValueHeads * s.keyDim * s.valueDim; }
  int64_t convFloats() const { return (kernel - 1) * s.channels(); }
  int64_t slotFloats() const { return deltaFloats() + convFloats() + 7; }
  void reset() { state = initial; }

  Floats run(const OpsTable& t, ParallelFor& par, const std::vector<Piece>& pieces) {
    const BatchArrays b(pieces);
    const Floats rows = b.gather(pieces, x, width(), width() + 3);
    Floats out(static_cast<size_t>((b.rows + 1) * (valueWidth() + 4)), -7.0f);
    const Floats zeros(static_cast<size_t>(s.channels()));
    Floats scratch(static_cast<size_t>(deltaNetScratchFloats(s, par.threads())), std::numeric_limits<float>::quiet_NaN());
    t.deltaNet(par, {.batch = b.view(),
                     .shape = s,
                     .x = rows.data(),
                     .xRowStride = width() + 3,
                     .convWeight = weight.data(),
                     .convKernel = kernel,
                     .aLog = aLog.data(),
                     .dtBias = dtBias.data(),
                     .normWeight = norm.data(),
                     .state = state.data(),
                     .convState = state.data() + deltaFloats(),
                     .stateStride = slotFloats(),
                     .zeros = zeros.data(),
                     .out = out.data(),
                     .outRowStride = valueWidth() + 4,
                     .scratch = scratch.data()});
    for (int64_t r = 0; r <= b.rows; ++r) CHECK(out[static_cast<size_t>(r * (valueWidth() + 4) + valueWidth())] == -7.0f);
    return b.scatter(out, valueWidth(), valueWidth() + 4);
  }

  Floats slotState(int64_t seq) const { return slot(2 * seq + 1); }
  Floats slot(int64_t index) const {
    const auto begin = state.begin() + index * slotFloats();
    return Floats(begin, begin + slotFloats());
  }
};

}  // namespace guildhall::test
