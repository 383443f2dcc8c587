// Elementary functions, rounding and row operations: against f64, and bit for bit between instruction sets.

#include "check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

/** Every sign, exponent and edge, plus a dense range around zero. */
Floats interestingValues() {
  Floats x;
  for (uint32_t exponent = 0; exponent < 256; ++exponent) {
    for (const uint32_t mantissa : {0u, 1u, 0x400000u, 0x7fffffu, 0x2aaaaau}) {
      for (const uint32_t sign : {0u, 0x80000000u}) {
        const uint32_t bits = sign | (exponent << 23) | mantissa;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        x.push_back(value);
      }
    }
  }
  for (float v = -110.0f; v < 110.0f; v += 0.0137f) x.push_back(v);
  Random random(1);
  for (int i = 0; i < 20000; ++i) x.push_back(random.uniform(-3.0f, 3.0f));
  return x;
}

using ArrayFn = void (*)(const float*, float*, int64_t);

/** Distance in units of the last place of the exact value; 0 when both are NaN or the same infinity. */
double ulps(float got, double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0.0 : 1e9;
  const float rounded = static_cast<float>(exact);
  if (got == rounded) return 0.0;
  if (std::isinf(got) || std::isinf(rounded)) return 1e9;
  int exponent = 0;
  std::frexp(exact, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent - 24, -149));
  return std::abs(static_cast<double>(got) - exact) / unit;
}

/** Errors up to `bound` ulp, or up to `negligible` in absolute terms; equal bits; nothing written past the end. */
void checkFunction(const char* name, ArrayFn OpsTable::* fn, double (*exact)(double), double bound, double negligible) {
  const Floats x = interestingValues();
  Floats reference;
  for (const OpsTable* t : tables()) {
    Floats y(x.size());
    (t->*fn)(x.data(), y.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = exact(static_cast<double>(x[i]));
      if (std::abs(static_cast<double>(y[i]) - expected) <= negligible) continue;
      const double error = ulps(y[i], expected);
      char text[128];
      std::snprintf(text, sizeof text, "%s(%.9g) = %.9g, %.2f ulp", name, static_cast<double>(x[i]),
                    static_cast<double>(y[i]), error);
      CHECK_MSG(error <= bound, text);
      if (std::isnan(y[i])) y[i] = 0.0f;
    }
    if (reference.empty()) reference = y;
    CHECK_SAME_BITS(y, reference, name);
    for (int64_t n = 0; n < 40; ++n) {
      Floats part(41, -7.0f);
      (t->*fn)(x.data() + 5000, part.data(), n);
      for (int64_t i = 0; i < n; ++i) CHECK(part[static_cast<size_t>(i)] == y[static_cast<size_t>(5000 + i)]);
      for (size_t i = static_cast<size_t>(n); i < part.size(); ++i) CHECK(part[i] == -7.0f);
    }
  }
}

double exactSigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double exactSoftplus(double x) { return x > 20.0 ? x : std::log1p(std::exp(x)); }

/** silu is x / (1 + exp(-x)) with exp saturating at 89, which matters only where the result is below 1e-36. */
void checkSilu() {
  const Floats x = interestingValues();
  Floats reference;
  for (const OpsTable* t : tables()) {
    Floats y(x.size());
    t->silu(x.data(), y.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = static_cast<double>(x[i]) * exactSigmoid(static_cast<double>(x[i]));
      if (x[i] > -80.0f) CHECK(ulps(y[i], exact) <= 3.0);
      if (x[i] <= -80.0f && std::isfinite(x[i])) CHECK(std::abs(y[i]) <= 1.5e-33f);
      if (std::isnan(y[i])) y[i] = 0.0f;
    }
    if (reference.empty()) reference = y;
    CHECK_SAME_BITS(y, reference, "silu");
  }
}

void checkReductions() {
  Random random(2);
  for (const int64_t n : {0, 1, 15, 16, 17, 63, 64, 65, 1023, 1024, 1025, 5000}) {
    const Floats x = random.normals(n, 3.0f);
    double firstSum = 0.0;
    Floats firstOut;
    for (const OpsTable* t : tables()) {
      float top = -std::numeric_limits<float>::infinity();
      for (const float v : x) top = std::max(top, v);
      CHECK(t->maxValue(x.data(), n) == top);
      const float shift = n == 0 ? 0.0f : top;
      Floats out(static_cast<size_t>(n));
      const double total = t->expSum(x.data(), shift, 0.7f, out.data(), n);
      CHECK(t->expSum(x.data(), shift, 0.7f, nullptr, n) == total);
      double exact = 0.0;
      for (const float v : x)
        exact += std::exp((static_cast<double>(v) - static_cast<double>(shift)) * static_cast<double>(0.7f));
      CHECK(std::abs(total - exact) <= tolerance(64) * std::max(1.0, exact));
      if (t == tables()[0]) {
        firstSum = total;
        firstOut = out;
      }
      CHECK(total == firstSum);
      CHECK_SAME_BITS(out, firstOut, "expSum");
    }
  }
}

void checkNanAndSearch() {
  Random random(3);
  for (const OpsTable* t : tables()) {
    for (const int64_t n : {1, 16, 37, 100}) {
      for (int64_t at = 0; at < n; ++at) {
        Floats x = random.normals(n);
        x[static_cast<size_t>(at)] = std::numeric_limits<float>::quiet_NaN();
        CHECK(std::isnan(t->maxValue(x.data(), n)));
      }
      const Floats x = random.normals(n);
      std::vector<int32_t> expected;
      for (int64_t i = 0; i < n; ++i) {
        if (x[static_cast<size_t>(i)] >= 0.25f) expected.push_back(static_cast<int32_t>(i));
      }
      std::vector<int32_t> found(static_cast<size_t>(n), -1);
      CHECK(t->indexesAtLeast(x.data(), 0.25f, found.data(), n, n) == static_cast<int64_t>(expected.size()));
      for (size_t i = 0; i < expected.size(); ++i) CHECK(found[i] == expected[i]);
      int32_t one[2] = {-1, -1};
      t->indexesAtLeast(x.data(), -100.0f, one, 1, n);
      CHECK(one[0] == 0 && one[1] == -1);
    }
  }
}

void checkBf16() {
  Random random(4);
  TestFor par(2, 1000);
  Floats x;
  for (int i = 0; i < 40001; ++i) {
    const uint32_t bits = static_cast<uint32_t>(random.bits());
    float value;
    std::memcpy(&value, &bits, sizeof value);
    x.push_back(value);
  }
  const int64_t n = static_cast<int64_t>(x.size());
  for (const OpsTable* t : tables()) {
    std::vector<Bf16> rounded(x.size());
    t->roundToBf16(par, x.data(), rounded.data(), n);
    Floats wide(x.size());
    t->widenBf16(par, rounded.data(), wide.data(), n);
    for (size_t i = 0; i < x.size(); ++i) {
      CHECK(rounded[i] == floatToBf16(x[i]));
      const float expected = bf16ToFloat(rounded[i]);
      CHECK(std::memcmp(&wide[i], &expected, sizeof(float)) == 0);
    }
  }
}

void checkRows() {
  Random random(5);
  for (const int64_t cols : {1, 16, 24, 100}) {
    const int64_t rows = 7;
    const int64_t stride = cols + 5;
    const Floats a = random.normals(rows * stride), b = random.normals(rows * stride), s = random.normals(rows * 3);
    Floats firstMul, firstAdd;
    for (const OpsTable* t : tables()) {
      for (const int threads : {1, 3}) {
        TestFor par(threads, 1);
        Floats product(static_cast<size_t>(rows * cols));
        t->siluMul(par, {.gate = a.data(),
                         .gateStride = stride,
                         .up = b.data(),
                         .upStride = stride,
                         .out = product.data(),
                         .outStride = cols,
                         .rows = rows,
                         .cols = cols});
        Floats sums[3];
        for (const RowScale kind : {RowScale::None, RowScale::Plain, RowScale::Sigmoid}) {
          Floats y = a;
          t->addRows(par, {.y = y.data(),
                           .yStride = stride,
                           .x = b.data(),
                           .xStride = stride,
                           .kind = kind,
                           .scale = s.data(),
                           .scaleStride = 3,
                           .rows = rows,
                           .cols = cols});
          sums[static_cast<int>(kind)] = y;
        }
        Floats gated = a;
        t->gateMul(par, {.x = gated.data(),
                         .xRowStride = stride,
                         .xHeadStride = 0,
                         .gate = b.data(),
                         .gateRowStride = stride,
                         .gateHeadStride = 0,
                         .rows = rows,
                         .heads = 1,
                         .dim = cols});
        Doubles exactProduct, exactSums[3], exactGated;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < stride; ++c) {
            const double x = a[static_cast<size_t>(r * stride + c)], y = b[static_cast<size_t>(r * stride + c)],
                         f = s[static_cast<size_t>(r * 3)];
            const bool in = c < cols;
            if (in) exactProduct.push_back(x * exactSigmoid(x) * y);
            exactSums[0].push_back(x + (in ? y : 0.0));
            exactSums[1].push_back(x + (in ? f * y : 0.0));
            exactSums[2].push_back(x + (in ? exactSigmoid(f) * y : 0.0));
            exactGated.push_back(in ? x * exactSigmoid(y) : x);
          }
        }
        checkClose("siluMul", product, exactProduct, tolerance(1));
        for (int k = 0; k < 3; ++k) checkClose("addRows", sums[k], exactSums[k], tolerance(1));
        checkClose("gateMul", gated, exactGated, tolerance(1));
        Floats all = sums[0];
        all.insert(all.end(), sums[1].begin(), sums[1].end());
        all.insert(all.end(), sums[2].begin(), sums[2].end());
        all.insert(all.end(), gated.begin(), gated.end());
        if (firstMul.empty()) {
          firstMul = product;
          firstAdd = all;
        }
        CHECK_SAME_BITS(product, firstMul, "siluMul");
        CHECK_SAME_BITS(all, firstAdd, "rows");
      }
    }
  }
}

}  // namespace

int main() {
  runTest("exp", [] { checkFunction("exp", &OpsTable::exp, [](double x) { return std::exp(x); }, 1.5, 0.0); });
  runTest("sigmoid", [] { checkFunction("sigmoid", &OpsTable::sigmoid, exactSigmoid, 3.0, 0x1p-126); });
  runTest("softplus", [] { checkFunction("softplus", &OpsTable::softplus, exactSoftplus, 3.0, 0.0); });
  runTest("silu", checkSilu);
  runTest("max and sum of exponentials", checkReductions);
  runTest("NaN and threshold search", checkNanAndSearch);
  runTest("bf16 rounding", checkBf16);
  runTest("row operations", checkRows);
  return 0;
}
