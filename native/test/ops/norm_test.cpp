// Norms and rope against f64; equal bits between instruction sets and for any split over threads.

#include "check.h"
#include "guildhall/ops/rope.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

constexpr float kEps = 1e-6f;

double meanSquare(const float* x, int64_t n) {
  double total = 0.0;
  for (int64_t i = 0; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total / static_cast<double>(n);
}

/** Runs `produce` for every table and several thread splits; all results must have the same bits. Returns them. */
template <typename Produce>
Floats sameEverywhere(const char* what, Produce produce) {
  Floats first;
  for (const OpsTable* t : tables()) {
    for (const int threads : {1, 3}) {
      TestFor par(threads, threads == 1 ? 1000000 : 1);
      const Floats result = produce(*t, par);
      if (first.empty()) first = result;
      CHECK_SAME_BITS(result, first, what);
    }
  }
  return first;
}

void checkRmsNorm(int64_t heads, int64_t dim, bool zeroCentered, bool inPlace) {
  Random random(static_cast<uint64_t>(heads * 1000 + dim));
  const int64_t rows = 5, headStride = dim + 3, rowStride = heads * headStride + 7;
  const Floats x = random.normals(rows * rowStride, 2.0f), w = random.normals(dim);
  const int64_t outHead = inPlace ? headStride : dim, outRow = inPlace ? rowStride : heads * dim;
  const Floats got = sameEverywhere("rmsNorm", [&](const OpsTable& t, ParallelFor& par) {
    Floats in = x;
    Floats out(static_cast<size_t>(rows * heads * dim));
    t.rmsNorm(par, {.x = in.data(),
                    .xRowStride = rowStride,
                    .xHeadStride = headStride,
                    .weight = w.data(),
                    .eps = kEps,
                    .zeroCentered = zeroCentered,
                    .out = inPlace ? in.data() : out.data(),
                    .outRowStride = outRow,
                    .outHeadStride = outHead,
                    .rows = rows,
                    .heads = heads,
                    .dim = dim});
    return inPlace ? in : out;
  });
  Doubles exact(got.size());
  for (size_t i = 0; i < exact.size() && inPlace; ++i) exact[i] = static_cast<double>(x[i]);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t h = 0; h < heads; ++h) {
      const float* row = x.data() + r * rowStride + h * headStride;
      const double inverse = 1.0 / std::sqrt(meanSquare(row, dim) + static_cast<double>(kEps));
      for (int64_t i = 0; i < dim; ++i) {
        const double weight = static_cast<double>(w[static_cast<size_t>(i)]) + (zeroCentered ? 1.0 : 0.0);
        exact[static_cast<size_t>(r * outRow + h * outHead + i)] = static_cast<double>(row[i]) * inverse * weight;
      }
    }
  }
  checkClose("rmsNorm", got, exact, tolerance(dim));
}

void checkRope(int64_t half, int64_t headDim) {
  Random random(static_cast<uint64_t>(half));
  const int64_t rows = 9, heads = 3, headStride = headDim, rowStride = heads * headDim + 4, axisStride = rows + 2;
  std::vector<int32_t> positions(static_cast<size_t>(3 * axisStride)), axis(static_cast<size_t>(half));
  for (auto& p : positions) p = static_cast<int32_t>(random.integer(0, 1000000));
  Floats invFreq(static_cast<size_t>(half));
  for (int64_t j = 0; j < half; ++j) {
    axis[static_cast<size_t>(j)] = static_cast<int32_t>(j % 3);
    invFreq[static_cast<size_t>(j)] = static_cast<float>(std::pow(1e7, -static_cast<double>(j) / static_cast<double>(half)));
  }
  const float scale = 1.25f;
  const Floats x = random.normals(rows * rowStride);
  const Floats got = sameEverywhere("rope", [&](const OpsTable& t, ParallelFor& par) {
    Floats cos(static_cast<size_t>(rows * half)), sin(cos.size()), y = x;
    ropeTable(par, {.positions = positions.data(),
                    .axisStride = axisStride,
                    .invFreq = invFreq.data(),
                    .freqAxis = axis.data(),
                    .half = half,
                    .scale = scale,
                    .rows = rows,
                    .cos = cos.data(),
                    .sin = sin.data()});
    t.rope(par, {.x = y.data(),
                 .rowStride = rowStride,
                 .headStride = headStride,
                 .rows = rows,
                 .heads = heads,
                 .half = half,
                 .cos = cos.data(),
                 .sin = sin.data()});
    return y;
  });
  Doubles exact(x.begin(), x.end());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t j = 0; j < half; ++j) {
        const float product =
            static_cast<float>(positions[static_cast<size_t>(axis[static_cast<size_t>(j)] * axisStride + r)]) *
            invFreq[static_cast<size_t>(j)];
        const double angle = static_cast<double>(product);
        const size_t at = static_cast<size_t>(r * rowStride + h * headStride + j);
        const double a = x[at], b = x[at + static_cast<size_t>(half)], f = static_cast<double>(scale);
        exact[at] = (a * std::cos(angle) - b * std::sin(angle)) * f;
        exact[at + static_cast<size_t>(half)] = (b * std::cos(angle) + a * std::sin(angle)) * f;
      }
    }
  }
  checkClose("rope", got, exact, tolerance(2));
}

/** Rotating q and k by their positions makes their product depend on the distance only. */
void checkRopeIsRelative() {
  const OpsTable& t = ops(bestIsa());
  TestFor par(1);
  Random random(8);
  const Floats base = random.normals(16);
  const Floats invFreq = {1.0f, 0.5f, 0.25f, 0.125f};
  const std::vector<int32_t> axis = {0, 1, 2, 0};
  const auto product = [&](int32_t p, int32_t q) {
    const std::vector<int32_t> positions = {p, q, p, q, p, q};
    Floats cos(8), sin(8), x = base;
    ropeTable(par, {.positions = positions.data(),
                    .axisStride = 2,
                    .invFreq = invFreq.data(),
                    .freqAxis = axis.data(),
                    .half = 4,
                    .rows = 2,
                    .cos = cos.data(),
                    .sin = sin.data()});
    t.rope(par, {.x = x.data(),
                 .rowStride = 8,
                 .headStride = 8,
                 .rows = 2,
                 .heads = 1,
                 .half = 4,
                 .cos = cos.data(),
                 .sin = sin.data()});
    double dot = 0.0;
    for (size_t i = 0; i < 8; ++i) dot += static_cast<double>(x[i]) * static_cast<double>(x[8 + i]);
    return dot;
  };
  CHECK(std::abs(product(3, 10) - product(1003, 1010)) < 1e-4);
  CHECK(std::abs(product(3, 10) - product(10, 3)) > 1e-2);
}

}  // namespace

int main() {
  runTest("rmsNorm", [] {
    for (const int64_t dim : {1, 8, 15, 16, 24, 63, 64, 65, 128, 256, 300, 2048}) {
      for (const int64_t heads : {1, 3}) {
        for (const bool zeroCentered : {false, true}) {
          checkRmsNorm(heads, dim, zeroCentered, false);
          checkRmsNorm(heads, dim, zeroCentered, true);
        }
      }
    }
  });
  runTest("rope", [] {
    checkRope(4, 8);
    checkRope(12, 32);
    checkRope(32, 256);
    checkRope(33, 70);
  });
  runTest("rope is relative", checkRopeIsRelative);
  return 0;
}
