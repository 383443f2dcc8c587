// Matmul: every instruction set, row count, panel edge and thread count gives the bits of the plain loop.

#include "guildhall/matmul.h"

#include "guildhall/bf16.h"
#include "guildhall/thread_pool.h"
#include "ops/check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

TensorSource sourceOf(const Floats& values, int64_t rows, int64_t cols) {
  TensorSource source;
  source.sourceRows = rows;
  source.cols = cols;
  source.data = reinterpret_cast<const uint8_t*>(values.data());
  source.dataBytes = static_cast<int64_t>(values.size() * sizeof(float));
  return source;
}

/** The definition: one chain over ascending k. */
Floats plainProduct(const Floats& x, const Floats& w, int64_t rows, int64_t n, int64_t k) {
  Floats y(static_cast<size_t>(rows * n));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      float acc = 0.0f;
      for (int64_t i = 0; i < k; ++i) {
        acc = std::fma(x[static_cast<size_t>(r * k + i)], w[static_cast<size_t>(c * k + i)], acc);
      }
      y[static_cast<size_t>(r * n + c)] = acc;
    }
  }
  return y;
}

Floats rounded(Floats values) {
  for (float& v : values) v = roundToBf16(v);
  return values;
}

/** Output columns past n keep this. */
constexpr float kUntouched = 1234.5f;

Floats product(const PackedLinear& weight, const Floats& x, int64_t rows, Isa isa, ParallelFor& par) {
  Arena arena(nullptr);
  const int64_t stride = weight.n() + 3;
  Floats padded(static_cast<size_t>(rows * stride), kUntouched);
  const MatmulInput input = prepareInput(matmulKernels(isa), weight.family(), x.data(), weight.k(), rows, weight.k(), arena, par);
  matmul(matmulKernels(isa), par, {{&weight, input, rows, padded.data(), stride}});
  Floats y;
  for (int64_t r = 0; r < rows; ++r) {
    const float* const row = padded.data() + r * stride;
    y.insert(y.end(), row, row + weight.n());
    for (int64_t c = weight.n(); c < stride; ++c) CHECK(row[c] == kUntouched);
  }
  return y;
}

std::string sizes(int64_t m, int64_t n, int64_t k) {
  return "m " + std::to_string(m) + " n " + std::to_string(n) + " k " + std::to_string(k);
}

const std::vector<int64_t> kRows = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 23, 40};

void checkSizes(int64_t n, int64_t k, KernelFamily family, ParallelFor& par) {
  Random random(static_cast<uint64_t>(n * 10007 + k));
  const Floats w = random.normals(n * k);
  const PackedLinear packed = PackedLinear::pack({sourceOf(w, n, k)}, family, nullptr);
  const Floats used = family == KernelFamily::kF32Fma ? w : rounded(w);
  const Floats x = random.normals(kRows.back() * k);
  const Floats expected = plainProduct(x, used, kRows.back(), n, k);
  for (const Isa isa : {Isa::Scalar, Isa::Avx2, Isa::Avx512}) {
    if (!isaSupported(isa)) continue;
    for (const int64_t m : kRows) {
      const Floats rows(x.begin(), x.begin() + m * k);
      const Floats y = product(packed, rows, m, isa, par);
      CHECK_MSG(sameBits(y, Floats(expected.begin(), expected.begin() + m * n)), sizes(m, n, k) + " " + isaName(isa));
    }
  }
}

void testFmaFamilies() {
  ThreadPool pool(3);
  for (const KernelFamily family : {KernelFamily::kF32Fma, KernelFamily::kBf16Fma}) {
    for (const int64_t n : {1, 15, 16, 17, 33, 47, 130, 200}) {
      for (const int64_t k : {1, 2, 3, 31, 64, 129}) checkSizes(n, k, family, pool);
    }
    for (const int64_t k : {1023, 1024, 1025, 2051}) checkSizes(35, k, family, pool);
  }
}

/** bf16-dot: the same output alone, in any batch and on any number of threads, and near the exact sum. */
void checkDot(int64_t n, int64_t k) {
  Random random(static_cast<uint64_t>(n * 31 + k));
  const Floats w = random.normals(n * k);
  const Floats x = random.normals(kRows.back() * k);
  const PackedLinear packed = PackedLinear::pack({sourceOf(w, n, k)}, KernelFamily::kBf16Dot, nullptr);
  ThreadPool serial(1);
  Floats alone;
  for (int64_t r = 0; r < kRows.back(); ++r) {
    const Floats row = product(packed, Floats(x.begin() + r * k, x.begin() + (r + 1) * k), 1, Isa::Avx512, serial);
    alone.insert(alone.end(), row.begin(), row.end());
  }
  for (int threads = 1; threads <= 3; ++threads) {
    ThreadPool pool(threads);
    for (const int64_t m : kRows) {
      const Floats y = product(packed, Floats(x.begin(), x.begin() + m * k), m, Isa::Avx512, pool);
      CHECK_MSG(sameBits(y, Floats(alone.begin(), alone.begin() + m * n)), sizes(m, n, k));
    }
  }
  const Floats xr = rounded(x);
  const Floats wr = rounded(w);
  for (int64_t i = 0; i < n * kRows.back(); ++i) {
    double exact = 0.0;
    double magnitude = 0.0;
    for (int64_t j = 0; j < k; ++j) {
      const double term = double{xr[static_cast<size_t>(i / n * k + j)]} * wr[static_cast<size_t>(i % n * k + j)];
      exact += term;
      magnitude += std::fabs(term);
    }
    const double bound = magnitude * static_cast<double>(k + 1) * std::numeric_limits<float>::epsilon();
    CHECK_MSG(std::fabs(alone[static_cast<size_t>(i)] - exact) <= bound, sizes(1, n, k));
  }
}

void testDotFamily() {
  if (!bf16DotSupported()) {
    std::printf("skipped: this processor lacks avx512bf16\n");
    return;
  }
  for (const int64_t n : {1, 17, 47, 130}) {
    for (const int64_t k : {1, 2, 31, 64, 1025}) checkDot(n, k);
  }
}

/** Jobs of one group, one of them empty, as in a message with many experts. */
void testGroups() {
  Random random(5);
  const int64_t k = 70;
  std::vector<PackedLinear> weights;
  std::vector<Floats> plain;
  for (int64_t n : {40, 300, 17, 64}) {
    plain.push_back(random.normals(n * k));
    weights.push_back(PackedLinear::pack({sourceOf(plain.back(), n, k)}, KernelFamily::kF32Fma, nullptr));
  }
  const std::vector<int64_t> rows = {3, 100, 0, 7};
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    std::vector<Floats> x, y;
    std::vector<MatmulJob> jobs;
    for (size_t i = 0; i < weights.size(); ++i) {
      x.push_back(random.normals(rows[i] * k));
      y.emplace_back(static_cast<size_t>(rows[i] * weights[i].n()));
    }
    for (size_t i = 0; i < weights.size(); ++i)
      jobs.push_back({&weights[i], {reinterpret_cast<const uint8_t*>(x[i].data()), k * 4}, rows[i], y[i].data(), weights[i].n()});
    matmul(matmulKernels(bestIsa()), pool, jobs);
    for (size_t i = 0; i < weights.size(); ++i) {
      CHECK(sameBits(y[i], plainProduct(x[i], plain[i], rows[i], weights[i].n(), k)));
    }
  }
}

/** Stacked parts equal one tensor of all their rows. */
void testStackedParts() {
  Random random(6);
  const int64_t k = 37;
  const Floats all = random.normals(50 * k);
  const Floats first(all.begin(), all.begin() + 21 * k);
  const Floats second(all.begin() + 21 * k, all.end());
  for (const KernelFamily family : {KernelFamily::kF32Fma, KernelFamily::kBf16Fma}) {
    const PackedLinear whole = PackedLinear::pack({sourceOf(all, 50, k)}, family, nullptr);
    const PackedLinear parts = PackedLinear::pack({sourceOf(first, 21, k), sourceOf(second, 29, k)}, family, nullptr);
    CHECK(whole.bytes() == parts.bytes());
    CHECK(std::memcmp(whole.panel(0), parts.panel(0), static_cast<size_t>(whole.bytes())) == 0);
  }
}

}  // namespace

int main() {
  testFmaFamilies();
  testDotFamily();
  testGroups();
  testStackedParts();
  return 0;
}
