// Convolution, gates and the two forms of the delta rule: against f64, in pieces, in batches, on every instruction set.

#include <algorithm>

#include "check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

double silu(double x) { return x / (1.0 + std::exp(-x)); }

/** Pieces of sequences over one state pool; sequence i uses slot 2 * i + 1. */
struct Piece {
  int64_t seq;
  int64_t from;
  int64_t to;
  int32_t mode = kModeChunked;
};

struct BatchArrays {
  std::vector<int32_t> rowStart, rowCount, context, slot, mode;
  int64_t rows = 0;

  explicit BatchArrays(const std::vector<Piece>& pieces) {
    for (const Piece& p : pieces) {
      rowStart.push_back(static_cast<int32_t>(rows + 1));
      rowCount.push_back(static_cast<int32_t>(p.to - p.from));
      context.push_back(static_cast<int32_t>(p.from));
      slot.push_back(static_cast<int32_t>(2 * p.seq + 1));
      mode.push_back(p.mode);
      rows += p.to - p.from + 2;
    }
  }
  BatchView view() const {
    return {.numSeqs = static_cast<int32_t>(rowStart.size()),
            .rowStart = rowStart.data(),
            .rowCount = rowCount.data(),
            .contextLen = context.data(),
            .stateSlot = slot.data(),
            .mode = mode.data()};
  }
  /** Rows of the pieces out of per-sequence arrays [tokens][width], at a stride. */
  Floats gather(const std::vector<Piece>& pieces, const std::vector<Floats>& from, int64_t width, int64_t stride) const {
    Floats out(static_cast<size_t>((rows + 1) * stride), std::numeric_limits<float>::quiet_NaN());
    for (size_t i = 0; i < pieces.size(); ++i) {
      for (int64_t r = 0; r < rowCount[i]; ++r) {
        std::copy_n(from[static_cast<size_t>(pieces[i].seq)].begin() + (pieces[i].from + r) * width, width,
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

// ---- convolution ----

struct Conv {
  int64_t channels;
  int64_t kernel;
  std::vector<Floats> x;
  Floats weight;
  Floats state;

  Conv(int64_t c, int64_t k, const std::vector<int64_t>& lengths) : channels(c), kernel(k) {
    Random random(static_cast<uint64_t>(c * 10 + k));
    for (const int64_t n : lengths) x.push_back(random.normals(n * c));
    weight = random.normals(k * c);
    reset();
  }
  int64_t stateStride() const { return (kernel - 1) * channels + 5; }
  void reset() { state.assign(static_cast<size_t>(stateStride() * 2) * (x.size() + 1), 0.0f); }

  Floats run(const OpsTable& t, ParallelFor& par, const std::vector<Piece>& pieces) {
    const BatchArrays b(pieces);
    const Floats in = b.gather(pieces, x, channels, channels + 3);
    Floats out(static_cast<size_t>((b.rows + 1) * (channels + 1)));
    t.causalConv(par, {.batch = b.view(),
                       .x = in.data(),
                       .xRowStride = channels + 3,
                       .weight = weight.data(),
                       .channels = channels,
                       .kernel = kernel,
                       .state = state.data(),
                       .stateStride = stateStride(),
                       .out = out.data(),
                       .outRowStride = channels + 1});
    return b.scatter(out, channels, channels + 1);
  }
  Doubles exact(int64_t seq, int64_t length) const {
    Doubles out;
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t c = 0; c < channels; ++c) {
        double y = 0.0;
        for (int64_t j = 0; j < kernel; ++j) {
          const int64_t at = t - kernel + 1 + j;
          if (at >= 0)
            y += static_cast<double>(weight[static_cast<size_t>(j * channels + c)]) *
                 static_cast<double>(x[static_cast<size_t>(seq)][static_cast<size_t>(at * channels + c)]);
        }
        out.push_back(silu(y));
      }
    }
    return out;
  }
};

void checkConv(int64_t channels, int64_t kernel) {
  Conv conv(channels, kernel, {40, 1, 2});
  Floats first, firstState;
  for (const OpsTable* t : tables()) {
    for (const int threads : {1, 3}) {
      TestFor par(threads, 1);
      conv.reset();
      const Floats got = conv.run(*t, par, {{0, 0, 40}, {1, 0, 1}, {2, 0, 2}});
      if (first.empty()) {
        first = got;
        firstState = conv.state;
      }
      CHECK_SAME_BITS(got, first, "causalConv");
      CHECK_SAME_BITS(conv.state, firstState, "conv state");
    }
  }
  Doubles exact = conv.exact(0, 40);
  for (const int64_t seq : {1, 2}) {
    const Doubles more = conv.exact(seq, seq);
    exact.insert(exact.end(), more.begin(), more.end());
  }
  checkClose("causalConv", first, exact, tolerance(kernel));
  // In pieces of one row, then of several, beside other sequences: the same bits and the same state.
  TestFor par(2, 1);
  conv.reset();
  Floats pieces;
  for (int64_t from = 0; from < 40;) {
    const int64_t to = std::min<int64_t>(40, from + (from < 6 ? 1 : from));
    const Floats part = conv.run(*tables().back(), par, {{0, from, to}, {1, 0, 0}});
    pieces.insert(pieces.end(), part.begin(), part.end());
    from = to;
  }
  conv.run(*tables().back(), par, {{2, 0, 1}, {1, 0, 1}});
  conv.run(*tables().back(), par, {{2, 1, 2}});
  CHECK_SAME_BITS(pieces, Floats(first.begin(), first.begin() + 40 * channels), "conv in pieces");
  CHECK_SAME_BITS(conv.state, firstState, "conv state in pieces");
}

// ---- gates ----

void checkGates(int64_t heads) {
  Random random(static_cast<uint64_t>(heads));
  const int64_t rows = 9, stride = heads + 2;
  const Floats a = random.normals(rows * stride, 8.0f), b = random.normals(rows * stride, 4.0f),
               aLog = random.normals(heads), dtBias = random.normals(heads);
  Floats first;
  for (const OpsTable* t : tables()) {
    for (const int threads : {1, 3}) {
      TestFor par(threads, 1);
      Floats both(static_cast<size_t>(2 * rows * heads));
      t->deltaGates(par, {.b = b.data(),
                          .bRowStride = stride,
                          .a = a.data(),
                          .aRowStride = stride,
                          .aLog = aLog.data(),
                          .dtBias = dtBias.data(),
                          .beta = both.data(),
                          .g = both.data() + rows * heads,
                          .rows = rows,
                          .heads = heads});
      if (first.empty()) first = both;
      CHECK_SAME_BITS(both, first, "deltaGates");
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t h = 0; h < heads; ++h) {
      const double beta = 1.0 / (1.0 + std::exp(-static_cast<double>(b[static_cast<size_t>(r * stride + h)])));
      const double sum = static_cast<double>(a[static_cast<size_t>(r * stride + h)] + dtBias[static_cast<size_t>(h)]);
      const double g =
          -std::exp(static_cast<double>(aLog[static_cast<size_t>(h)])) * (sum > 20.0 ? sum : std::log1p(std::exp(sum)));
      CHECK(std::abs(static_cast<double>(first[static_cast<size_t>(r * heads + h)]) - beta) <= tolerance(1) * beta);
      CHECK(std::abs(static_cast<double>(first[static_cast<size_t>((rows + r) * heads + h)]) - g) <=
            tolerance(1) * std::abs(g));
    }
  }
}

// ---- delta rule ----

struct Shape {
  int64_t keyHeads;
  int64_t valueHeads;
  int64_t keyDim;
  int64_t valueDim;
};

struct Delta {
  Shape s;
  std::vector<int64_t> lengths;
  std::vector<Floats> q, k, v, beta, g;
  Floats initial;
  Floats state;

  Delta(Shape shape, std::vector<int64_t> tokens, float forgetting = 0.3f) : s(shape), lengths(std::move(tokens)) {
    Random random(static_cast<uint64_t>(s.keyDim * 100 + s.valueDim + s.valueHeads));
    for (const int64_t n : lengths) {
      q.push_back(unit(random, n, 1.0f / std::sqrt(static_cast<float>(s.keyDim))));
      k.push_back(unit(random, n, 1.0f));
      v.push_back(random.normals(n * s.valueHeads * s.valueDim));
      Floats b, decay;
      for (int64_t i = 0; i < n * s.valueHeads; ++i) {
        b.push_back(random.uniform(0.02f, 0.98f));
        decay.push_back(-forgetting * random.uniform(0.0f, 1.0f) * random.uniform(0.0f, 1.0f));
      }
      beta.push_back(b);
      g.push_back(decay);
    }
    initial = random.normals(stateStride() * static_cast<int64_t>(2 * lengths.size() + 1), 0.1f);
    state = initial;
  }
  int64_t stateFloats() const { return s.valueHeads * s.keyDim * s.valueDim; }
  int64_t stateStride() const { return stateFloats() + 7; }
  void reset() { state = initial; }

  /** Keys of norm 1, as after l2Norm: otherwise the rule is unstable. */
  Floats unit(Random& random, int64_t n, float scale) const {
    Floats x = random.normals(n * s.keyHeads * s.keyDim);
    for (int64_t i = 0; i < n * s.keyHeads; ++i) {
      float* row = x.data() + i * s.keyDim;
      double total = 0.0;
      for (int64_t d = 0; d < s.keyDim; ++d) total += static_cast<double>(row[d]) * static_cast<double>(row[d]);
      for (int64_t d = 0; d < s.keyDim; ++d) row[d] *= scale / static_cast<float>(std::sqrt(total));
    }
    return x;
  }

  Floats run(const OpsTable& t, ParallelFor& par, const std::vector<Piece>& pieces) {
    const BatchArrays b(pieces);
    const int64_t keyWidth = s.keyHeads * s.keyDim, valueWidth = s.valueHeads * s.valueDim;
    const Floats qr = b.gather(pieces, q, keyWidth, keyWidth + 3), kr = b.gather(pieces, k, keyWidth, keyWidth + 1),
                 vr = b.gather(pieces, v, valueWidth, valueWidth + 2);
    const Floats br = b.gather(pieces, beta, s.valueHeads, s.valueHeads),
                 gr = b.gather(pieces, g, s.valueHeads, s.valueHeads);
    Floats out(static_cast<size_t>((b.rows + 1) * (valueWidth + 4)), -7.0f);
    Floats scratch(static_cast<size_t>(deltaRuleScratchFloats(s.keyDim, s.valueDim, par.threads())),
                   std::numeric_limits<float>::quiet_NaN());
    t.deltaRule(par, {.batch = b.view(),
                      .q = qr.data(),
                      .qRowStride = keyWidth + 3,
                      .k = kr.data(),
                      .kRowStride = keyWidth + 1,
                      .v = vr.data(),
                      .vRowStride = valueWidth + 2,
                      .beta = br.data(),
                      .g = gr.data(),
                      .out = out.data(),
                      .outRowStride = valueWidth + 4,
                      .numKeyHeads = s.keyHeads,
                      .numValueHeads = s.valueHeads,
                      .keyDim = s.keyDim,
                      .valueDim = s.valueDim,
                      .state = state.data(),
                      .stateStride = stateStride(),
                      .scratch = scratch.data()});
    for (int64_t r = 0; r <= b.rows; ++r) CHECK(out[static_cast<size_t>(r * (valueWidth + 4) + valueWidth)] == -7.0f);
    return b.scatter(out, valueWidth, valueWidth + 4);
  }

  /** The recurrence in f64 over a whole sequence; the state ends in `last`. */
  Doubles exact(int64_t seq, Doubles& last) const {
    const size_t i = static_cast<size_t>(seq);
    const float* start = initial.data() + (2 * seq + 1) * stateStride();
    last.assign(start, start + stateFloats());
    Doubles out;
    for (int64_t t = 0; t < lengths[i]; ++t) {
      for (int64_t h = 0; h < s.valueHeads; ++h) {
        const int64_t keyHead = h / (s.valueHeads / s.keyHeads);
        const float* qt = q[i].data() + (t * s.keyHeads + keyHead) * s.keyDim;
        const float* kt = k[i].data() + (t * s.keyHeads + keyHead) * s.keyDim;
        const float* vt = v[i].data() + (t * s.valueHeads + h) * s.valueDim;
        double* S = last.data() + h * s.keyDim * s.valueDim;
        const double decay = std::exp(static_cast<double>(g[i][static_cast<size_t>(t * s.valueHeads + h)]));
        const double b = beta[i][static_cast<size_t>(t * s.valueHeads + h)];
        for (int64_t c = 0; c < s.valueDim; ++c) {
          double p = 0.0, o = 0.0;
          for (int64_t d = 0; d < s.keyDim; ++d) p += static_cast<double>(kt[d]) * (S[d * s.valueDim + c] *= decay);
          const double delta = b * (static_cast<double>(vt[c]) - p);
          for (int64_t d = 0; d < s.keyDim; ++d)
            o += static_cast<double>(qt[d]) * (S[d * s.valueDim + c] += static_cast<double>(kt[d]) * delta);
          out.push_back(o);
        }
      }
    }
    return out;
  }

  Floats slotState(int64_t seq) const {
    const auto begin = state.begin() + (2 * seq + 1) * stateStride();
    return Floats(begin, begin + stateFloats());
  }
};

/** Error that f32 may show after this many tokens. */
double deltaTolerance(const Shape& s) { return tolerance(s.keyDim + kDeltaChunk); }

void checkForm(const Shape& shape, int32_t mode, const std::vector<int64_t>& lengths, float forgetting) {
  Delta d(shape, lengths, forgetting);
  std::vector<Piece> pieces;
  for (size_t i = 0; i < lengths.size(); ++i) pieces.push_back({static_cast<int64_t>(i), 0, lengths[i], mode});
  Floats first, firstState;
  for (const OpsTable* t : tables()) {
    for (const int threads : {1, 3}) {
      TestFor par(threads, 1);
      d.reset();
      const Floats got = d.run(*t, par, pieces);
      if (first.empty()) {
        first = got;
        firstState = d.state;
      }
      CHECK_SAME_BITS(got, first, "deltaRule");
      CHECK_SAME_BITS(d.state, firstState, "delta state");
    }
  }
  int64_t row = 0;
  const int64_t width = shape.valueHeads * shape.valueDim;
  for (size_t i = 0; i < lengths.size(); ++i) {
    Doubles last;
    const Doubles exact = d.exact(static_cast<int64_t>(i), last);
    checkClose("delta output", Floats(first.begin() + row * width, first.begin() + (row + lengths[i]) * width), exact,
               deltaTolerance(shape));
    checkClose("delta state", d.slotState(static_cast<int64_t>(i)), last, deltaTolerance(shape));
    row += lengths[i];
  }
  // Slots of nobody are untouched.
  for (size_t i = 0; i <= lengths.size(); ++i) {
    const auto at = static_cast<int64_t>(2 * i) * d.stateStride();
    CHECK(std::equal(d.state.begin() + at, d.state.begin() + at + d.stateStride(), d.initial.begin() + at));
  }
}

/** Cuts at multiples of 64 (any cut for the recurrent form), other company: the same bits. */
void checkPieces(const Shape& shape) {
  const OpsTable& t = *tables().back();
  TestFor one(1), many(3, 1);
  Delta d(shape, {210, 70});
  const Floats whole = d.run(t, one, {{0, 0, 210}});
  const Floats wholeState = d.slotState(0);
  d.reset();
  Floats pieces;
  for (const Piece& p : std::vector<Piece>{{0, 0, 64}, {0, 64, 192}, {0, 192, 210}}) {
    const bool company = p.from == 64;
    const Floats part = company ? d.run(t, many, {{1, 0, 70, kModeRecurrent}, p}) : d.run(t, many, {p});
    const int64_t skip = company ? 70 * shape.valueHeads * shape.valueDim : 0;
    pieces.insert(pieces.end(), part.begin() + skip, part.end());
  }
  CHECK_SAME_BITS(pieces, whole, "chunked in pieces");
  CHECK_SAME_BITS(d.slotState(0), wholeState, "chunked state in pieces");
  // A row does not depend on rows after it.
  d.reset();
  const Floats prefix = d.run(t, one, {{0, 0, 100}});
  CHECK_SAME_BITS(prefix, Floats(whole.begin(), whole.begin() + static_cast<int64_t>(prefix.size())), "shorter last chunk");

  d.reset();
  const Floats replay = d.run(t, one, {{0, 0, 210, kModeRecurrent}});
  const Floats replayState = d.slotState(0);
  d.reset();
  Floats steps;
  for (int64_t r = 0; r < 210; ++r) {
    const Floats step = d.run(t, many, {{0, r, r + 1, kModeRecurrent}});
    steps.insert(steps.end(), step.begin(), step.end());
  }
  CHECK_SAME_BITS(steps, replay, "recurrent step by step");
  CHECK_SAME_BITS(d.slotState(0), replayState, "recurrent state");
}

/** Strong forgetting: exponents far below zero must not overflow anywhere. */
void checkStrongDecay() {
  const Shape shape{1, 2, 16, 16};
  Delta d(shape, {130}, 60.0f);
  TestFor par(1);
  const Floats chunked = d.run(*tables().back(), par, {{0, 0, 130}});
  for (const float x : chunked) CHECK(std::isfinite(x));
  Doubles last;
  const Doubles exact = d.exact(0, last);
  checkClose("strong decay", chunked, exact, deltaTolerance(shape));
}

/** A sequence without a slot or without rows is left alone. */
void checkSkips() {
  const Shape shape{1, 1, 8, 8};
  Delta d(shape, {70, 5});
  TestFor par(2, 1);
  const std::vector<Piece> pieces = {{0, 0, 0}, {1, 0, 5, kModeRecurrent}, {0, 64, 64}};
  d.run(*tables().back(), par, pieces);
  CHECK(std::equal(d.state.begin() + d.stateStride(), d.state.begin() + 2 * d.stateStride(),
                   d.initial.begin() + d.stateStride()));
}

}  // namespace

int main() {
  runTest("causal convolution", [] {
    for (const int64_t kernel : {2, 3, 4, 5, 8}) {
      for (const int64_t channels : {1, 16, 24, 300}) checkConv(channels, kernel);
    }
  });
  runTest("gates", [] {
    for (const int64_t heads : {1, 4, 16, 33}) checkGates(heads);
  });
  const std::vector<Shape> shapes = {{1, 1, 8, 8},   {2, 2, 16, 16}, {2, 4, 24, 40},
                                     {1, 4, 32, 32}, {2, 2, 32, 72}, {1, 2, 128, 128}};
  runTest("recurrent form", [&] {
    for (const Shape& s : shapes) checkForm(s, kModeRecurrent, {1, 2, 65, 40}, 0.3f);
  });
  runTest("chunked form", [&] {
    for (const Shape& s : shapes) checkForm(s, kModeChunked, {1, 2, 15, 16, 17, 63, 64, 65, 130, 200}, 0.3f);
  });
  runTest("long memory", [] {
    checkForm({1, 2, 32, 32}, kModeChunked, {1000}, 0.001f);
    checkForm({1, 2, 32, 32}, kModeRecurrent, {1000}, 0.001f);
  });
  runTest("pieces and company", [] {
    checkPieces({2, 4, 24, 40});
    checkPieces({1, 2, 16, 64});
  });
  runTest("strong decay", checkStrongDecay);
  runTest("sequences without work", checkSkips);
  return 0;
}
