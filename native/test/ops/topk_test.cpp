// Gate: softmax over all experts and top-k, against a sorted f64 reference.

#include <algorithm>
#include <numeric>

#include "check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

struct Result {
  std::vector<int32_t> ids;
  Floats weights;
  int64_t badRow;
};

Result run(const OpsTable& t, ParallelFor& par, const Floats& logits, int64_t rows, int64_t stride, int64_t experts,
           int64_t k, bool renormalize) {
  Result r{std::vector<int32_t>(static_cast<size_t>(rows * k)), Floats(static_cast<size_t>(rows * k)), 0};
  Floats scratch(static_cast<size_t>(softmaxTopkScratchFloats(experts, par.threads())));
  std::atomic<int64_t> bad{std::numeric_limits<int64_t>::max()};
  t.softmaxTopk(par, {.logits = logits.data(),
                      .logitStride = stride,
                      .rows = rows,
                      .numExperts = experts,
                      .k = k,
                      .renormalize = renormalize,
                      .ids = r.ids.data(),
                      .weights = r.weights.data(),
                      .scratch = scratch.data(),
                      .badRow = &bad});
  r.badRow = bad.load();
  return r;
}

void checkAgainstReference(int64_t experts, int64_t k, bool renormalize) {
  Random random(static_cast<uint64_t>(experts * 100 + k));
  const int64_t rows = 13, stride = experts + 3;
  Floats logits = random.normals(rows * stride, 3.0f);
  Result first;
  for (const OpsTable* t : tables()) {
    for (const int threads : {1, 3}) {
      TestFor par(threads, 1);
      const Result got = run(*t, par, logits, rows, stride, experts, k, renormalize);
      CHECK(got.badRow == std::numeric_limits<int64_t>::max());
      if (first.ids.empty()) first = got;
      CHECK(got.ids == first.ids);
      CHECK_SAME_BITS(got.weights, first.weights, "softmaxTopk");
    }
  }
  Doubles weights;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = logits.data() + r * stride;
    std::vector<int32_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    double total = 0.0, chosen = 0.0;
    for (int64_t e = 0; e < experts; ++e) total += std::exp(static_cast<double>(row[e]));
    for (int64_t i = 0; i < k; ++i) chosen += std::exp(static_cast<double>(row[order[static_cast<size_t>(i)]])) / total;
    for (int64_t i = 0; i < k; ++i) {
      CHECK(first.ids[static_cast<size_t>(r * k + i)] == order[static_cast<size_t>(i)]);
      const double p = std::exp(static_cast<double>(row[order[static_cast<size_t>(i)]])) / total;
      weights.push_back(renormalize ? p / chosen : p);
    }
  }
  checkClose("softmaxTopk", first.weights, weights, tolerance(experts));
}

void checkTies() {
  TestFor par(1);
  for (const OpsTable* t : tables()) {
    const Floats same(40, 1.5f);
    const Result r = run(*t, par, same, 1, 40, 40, 5, true);
    for (int32_t i = 0; i < 5; ++i) CHECK(r.ids[static_cast<size_t>(i)] == i && r.weights[static_cast<size_t>(i)] == 0.2f);
    Floats pair(40, 0.0f);
    pair[33] = pair[7] = 2.0f;
    const Result two = run(*t, par, pair, 1, 40, 40, 3, false);
    CHECK(two.ids[0] == 7 && two.ids[1] == 33 && two.ids[2] == 0);
    // Far below the best: probability 0, still distinct ids.
    Floats far(20, -500.0f);
    far[4] = 0.0f;
    const Result lone = run(*t, par, far, 1, 20, 20, 3, true);
    CHECK(lone.ids[0] == 4 && lone.ids[1] == 0 && lone.ids[2] == 1);
    CHECK(lone.weights[0] == 1.0f && lone.weights[1] == 0.0f);
    Floats masked(20, -std::numeric_limits<float>::infinity());
    masked[9] = -3.0f;
    CHECK(run(*t, par, masked, 1, 20, 20, 1, true).ids[0] == 9);
  }
}

void checkBadRows() {
  TestFor par(3, 1);
  for (const OpsTable* t : tables()) {
    for (const float poison : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      Random random(3);
      Floats logits = random.normals(10 * 20);
      logits[7 * 20 + 19] = poison;
      logits[4 * 20] = poison;
      const Result r = run(*t, par, logits, 10, 20, 20, 4, true);
      CHECK(r.badRow == 4);
      for (const int64_t row : {4, 7}) {
        for (int32_t i = 0; i < 4; ++i)
          CHECK(r.ids[static_cast<size_t>(row * 4 + i)] == i && r.weights[static_cast<size_t>(row * 4 + i)] == 0.0f);
      }
      CHECK(r.weights[3 * 4] > 0.0f);
    }
  }
}

}  // namespace

int main() {
  runTest("against a sorted reference", [] {
    for (const int64_t experts : {1, 8, 17, 64, 100, 512}) {
      for (const int64_t k : {1, 2, 8, 10}) {
        if (k > experts) continue;
        checkAgainstReference(experts, k, true);
        checkAgainstReference(experts, k, false);
      }
    }
    checkAgainstReference(8, 8, true);
  });
  runTest("ties and masked experts", checkTies);
  runTest("rows that are not numbers", checkBadRows);
  return 0;
}
