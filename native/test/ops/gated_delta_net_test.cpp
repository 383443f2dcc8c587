// The delta net between its projections, both forms: against f64, in pieces, in batches, on every instruction set.

#include "delta_world.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }
double at(const Floats& x, int64_t i) { return static_cast<double>(x[static_cast<size_t>(i)]); }

// ---- the same in f64 ----

class Exact {
 public:
  /** A whole sequence from its initial state: `out` [tokens][valueWidth], S at the end in `last`. */
  Exact(const Net& net, int64_t seq) : net_(net), s_(net.s), x_(net.x[static_cast<size_t>(seq)]) {
    const auto start = net.initial.begin() + (2 * seq + 1) * net.slotFloats();
    past_ = Floats(start + net.deltaFloats(), start + net.deltaFloats() + net.convFloats());
    last.assign(start, start + net.deltaFloats());
    for (int64_t t = 0; t < net.lengths[static_cast<size_t>(seq)]; ++t) {
      for (int64_t h = 0; h < s_.numValueHeads; ++h) head(t, h);
    }
  }
  Doubles out;
  Doubles last;

 private:
  double raw(int64_t t, int64_t c) const {
    return t < 0 ? at(past_, (net_.kernel - 1 + t) * s_.channels() + c) : at(x_, t * net_.width() + c);
  }
  Doubles convolved(int64_t t, int64_t first, int64_t n) const {
    Doubles y;
    for (int64_t c = first; c < first + n; ++c) {
      double sum = 0.0;
      for (int64_t j = 0; j < net_.kernel; ++j) sum += at(net_.weight, j * s_.channels() + c) * raw(t - net_.kernel + 1 + j, c);
      y.push_back(silu(sum));
    }
    return y;
  }
  static Doubles unit(Doubles v, double scale) {
    double total = 1e-6;
    for (const double a : v) total += a * a;
    for (double& a : v) a *= scale / std::sqrt(total);
    return v;
  }
  void head(int64_t t, int64_t h) {
    const int64_t dk = s_.keyDim, dv = s_.valueDim, keyHead = h / s_.valueHeadsPerKeyHead(), keys = s_.numKeyHeads * dk;
    const Doubles q = unit(convolved(t, keyHead * dk, dk), 1.0 / std::sqrt(static_cast<double>(dk)));
    const Doubles k = unit(convolved(t, keys + keyHead * dk, dk), 1.0);
    const Doubles v = convolved(t, 2 * keys + h * dv, dv);
    const int64_t scalars = t * net_.width() + s_.channels() + net_.valueWidth();
    const double beta = sigmoid(at(x_, scalars + h));
    const double sum = at(x_, scalars + s_.numValueHeads + h) + at(net_.dtBias, h);
    const double decay = std::exp(-std::exp(at(net_.aLog, h)) * (sum > 20.0 ? sum : std::log1p(std::exp(sum))));
    double* const S = last.data() + h * dk * dv;
    Doubles o;
    double square = 0.0;
    for (int64_t c = 0; c < dv; ++c) {
      double p = 0.0, y = 0.0;
      for (int64_t d = 0; d < dk; ++d) p += k[static_cast<size_t>(d)] * (S[d * dv + c] *= decay);
      const double delta = beta * (v[static_cast<size_t>(c)] - p);
      for (int64_t d = 0; d < dk; ++d) y += q[static_cast<size_t>(d)] * (S[d * dv + c] += k[static_cast<size_t>(d)] * delta);
      square += y * y;
      o.push_back(y);
    }
    const double inverse = 1.0 / std::sqrt(square / static_cast<double>(dv) + 1e-6);
    for (int64_t c = 0; c < dv; ++c) {
      const double z = at(x_, t * net_.width() + s_.channels() + h * dv + c);
      out.push_back(o[static_cast<size_t>(c)] * inverse * at(net_.norm, c) * silu(z));
    }
  }

  const Net& net_;
  const DeltaNetShape s_;
  const Floats& x_;
  Floats past_;
};

/** Error that f32 may show after this many terms; the last norm may enlarge a small output, so its bound is wider. */
double stateTolerance(const DeltaNetShape& s) { return tolerance(s.keyDim + kDeltaChunk); }
double outTolerance(const DeltaNetShape& s) { return 4.0 * tolerance(s.keyDim + kDeltaChunk); }

/** The last kernel-1 raw rows of a sequence's whole history are in its slot. */
void checkConvState(const Net& net, int64_t seq) {
  const int64_t channels = net.s.channels(), past = net.kernel - 1, tokens = net.lengths[static_cast<size_t>(seq)];
  const int64_t slot = (2 * seq + 1) * net.slotFloats() + net.deltaFloats();
  for (int64_t j = 0; j < past; ++j) {
    const int64_t t = tokens - past + j;
    for (int64_t c = 0; c < channels; ++c) {
      const float expected = t < 0 ? net.initial[static_cast<size_t>(slot + (past + t) * channels + c)]
                                   : net.x[static_cast<size_t>(seq)][static_cast<size_t>(t * net.width() + c)];
      CHECK(net.state[static_cast<size_t>(slot + j * channels + c)] == expected);
    }
  }
}

void checkForm(Net net, int32_t mode) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < net.lengths.size(); ++i) pieces.push_back({static_cast<int64_t>(i), 0, net.lengths[i], mode});
  Floats first, firstState;
  for (const OpsTable* t : tables()) {
    for (const int threads : {1, 3, 40}) {
      TestFor par(threads, 1);
      net.reset();
      const Floats got = net.run(*t, par, pieces);
      if (first.empty()) {
        first = got;
        firstState = net.state;
      }
      CHECK_SAME_BITS(got, first, "output");
      CHECK_SAME_BITS(net.state, firstState, "state");
    }
  }
  int64_t row = 0;
  for (size_t i = 0; i < net.lengths.size(); ++i) {
    const auto seq = static_cast<int64_t>(i);
    const Exact exact(net, seq);
    const int64_t width = net.valueWidth();
    checkClose("output", Floats(first.begin() + row * width, first.begin() + (row + net.lengths[i]) * width), exact.out,
               outTolerance(net.s));
    checkClose("state", net.slotState(seq), exact.last, stateTolerance(net.s));
    checkConvState(net, seq);
    row += net.lengths[i];
  }
  // Slots of nobody are untouched.
  for (size_t i = 0; i <= net.lengths.size(); ++i) {
    const auto slot = static_cast<int64_t>(2 * i) * net.slotFloats();
    CHECK(std::equal(net.state.begin() + slot, net.state.begin() + slot + net.slotFloats(), net.initial.begin() + slot));
  }
}

/** Cuts at multiples of 64 (any cut for the recurrent form), other company: the same bits. */
void checkPieces(const DeltaNetShape& shape) {
  const OpsTable& t = *tables().back();
  TestFor one(1), many(3, 1);
  Net net(shape, {210, 70});
  const Floats whole = net.run(t, one, {{0, 0, 210}});
  const Floats wholeState = net.slotState(0);
  net.reset();
  Floats pieces;
  for (const Piece& p : std::vector<Piece>{{0, 0, 64}, {0, 64, 192}, {0, 192, 210}}) {
    const bool company = p.from == 64;
    const Floats part = company ? net.run(t, many, {{1, 0, 70, kModeRecurrent}, p}) : net.run(t, many, {p});
    const int64_t skip = company ? 70 * net.valueWidth() : 0;
    pieces.insert(pieces.end(), part.begin() + skip, part.end());
  }
  CHECK_SAME_BITS(pieces, whole, "chunked in pieces");
  CHECK_SAME_BITS(net.slotState(0), wholeState, "chunked state in pieces");
  // A row does not depend on rows after it.
  net.reset();
  const Floats prefix = net.run(t, one, {{0, 0, 100}});
  CHECK_SAME_BITS(prefix, Floats(whole.begin(), whole.begin() + static_cast<int64_t>(prefix.size())), "shorter last chunk");
}

/** Generated tokens one at a time, or replayed in one call, or in uneven ones. */
void checkReplay(const DeltaNetShape& shape) {
  const OpsTable& t = *tables().back();
  TestFor one(1), many(3, 1);
  Net net(shape, {150});
  const Floats replay = net.run(t, one, {{0, 0, 150, kModeRecurrent}});
  const Floats replayState = net.slotState(0);
  for (const int64_t most : {1, 7, 90}) {
    net.reset();
    Floats steps;
    for (int64_t r = 0; r < 150; r += most) {
      const Floats step = net.run(t, many, {{0, r, std::min<int64_t>(150, r + most), kModeRecurrent}});
      steps.insert(steps.end(), step.begin(), step.end());
    }
    CHECK_SAME_BITS(steps, replay, "recurrent step by step");
    CHECK_SAME_BITS(net.slotState(0), replayState, "recurrent state");
  }
}

/** Strong forgetting: exponents far below zero must not overflow anywhere. */
void checkStrongDecay() {
  Net net({1, 2, 16, 16}, {130}, 60.0f);
  TestFor par(1);
  const Floats chunked = net.run(*tables().back(), par, {{0, 0, 130}});
  for (const float x : chunked) CHECK(std::isfinite(x));
  checkClose("strong decay", chunked, Exact(net, 0).out, outTolerance(net.s));
}

/** A sequence without a slot or without rows is left alone. */
void checkSkips() {
  Net net({1, 1, 8, 8}, {70, 5});
  TestFor par(2, 1);
  net.run(*tables().back(), par, {{0, 0, 0}, {1, 0, 5, kModeRecurrent}, {0, 64, 64}});
  CHECK(std::equal(net.state.begin() + net.slotFloats(), net.state.begin() + 2 * net.slotFloats(),
                   net.initial.begin() + net.slotFloats()));
  const Floats before = net.state;
  const Floats out = net.run(*tables().back(), par, {{-1, 0, 3}, {-1, 0, 1, kModeRecurrent}});
  for (const float x : out) CHECK(x == -7.0f);
  CHECK_SAME_BITS(net.state, before, "no slot");
}

}  // namespace

int main() {
  const std::vector<DeltaNetShape> shapes = {{1, 1, 8, 8},   {2, 2, 16, 16}, {2, 4, 24, 40}, {1, 4, 32, 32},
                                             {2, 2, 32, 72}, {1, 2, 40, 64}, {1, 2, 128, 128}};
  runTest("recurrent form", [&] {
    for (const DeltaNetShape& s : shapes) checkForm(Net(s, {1, 2, 65, 40}), kModeRecurrent);
  });
  runTest("chunked form", [&] {
    for (const DeltaNetShape& s : shapes) checkForm(Net(s, {1, 2, 15, 16, 17, 63, 64, 65, 130, 200}), kModeChunked);
  });
  runTest("convolution kernels", [] {
    for (const int64_t kernel : {2, 3, 5, 8}) {
      checkForm(Net({2, 4, 24, 40}, {1, 2, 70}, 0.3f, kernel), kModeChunked);
      checkForm(Net({1, 3, 8, 24}, {1, 2, 9}, 0.3f, kernel), kModeRecurrent);
    }
  });
  runTest("long memory", [] {
    checkForm(Net({1, 2, 32, 32}, {1000}, 0.001f), kModeChunked);
    checkForm(Net({1, 2, 32, 32}, {1000}, 0.001f), kModeRecurrent);
  });
  runTest("pieces and company", [] {
    checkPieces({2, 4, 24, 40});
    checkPieces({1, 2, 16, 64});
  });
  runTest("replay", [] {
    checkReplay({2, 4, 24, 40});
    checkReplay({1, 2, 16, 160});
  });
  runTest("strong decay", checkStrongDecay);
  runTest("sequences without work", checkSkips);
  return 0;
}
