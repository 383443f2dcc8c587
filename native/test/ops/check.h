#pragma once

// What the op tests share: assertions, a random source, variants of this machine, and a ParallelFor with real threads.

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "guildhall/ops/ops.h"

namespace guildhall::test {

[[noreturn]] inline void failAt(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::exit(1);
}

#define CHECK(condition)                                                         \
  do {                                                                           \
    if (!(condition)) ::guildhall::test::failAt(__FILE__, __LINE__, #condition); \
  } while (0)

#define CHECK_MSG(condition, message)                                                                            \
  do {                                                                                                           \
    if (!(condition)) ::guildhall::test::failAt(__FILE__, __LINE__, std::string(#condition) + ": " + (message)); \
  } while (0)

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

/** Deterministic numbers. */
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  float uniform(float low, float high) { return low + (high - low) * static_cast<float>(engine_() >> 40) * 0x1.0p-24f; }
  float normal() {
    float total = 0.0f;
    for (int i = 0; i < 12; ++i) total += uniform(0.0f, 1.0f);
    return total - 6.0f;
  }
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  uint64_t bits() { return engine_(); }
  Floats normals(int64_t n, float scale = 1.0f) {
    Floats out(static_cast<size_t>(n));
    for (float& x : out) x = normal() * scale;
    return out;
  }

 private:
  std::mt19937_64 engine_;
};

/** Variants that this processor runs; says which are skipped. */
inline std::vector<const OpsTable*> tables() {
  std::vector<const OpsTable*> out;
  for (const Isa isa : {Isa::Scalar, Isa::Avx2, Isa::Avx512}) {
    if (isaSupported(isa)) {
      out.push_back(&ops(isa));
    } else {
      std::printf("skipped: this processor lacks %s\n", isaName(isa));
    }
  }
  return out;
}

/** Real threads, chunks smaller than asked for, given out from the end: whatever a kernel may not depend on. */
class TestFor final : public ParallelFor {
 public:
  explicit TestFor(int threads, int64_t maxGrain = std::numeric_limits<int64_t>::max())
      : threads_(threads), maxGrain_(maxGrain) {}

  void run(int64_t n, FunctionRef<void(int64_t, int64_t, int)> body, int64_t grain = 1) override {
    if (grain > maxGrain_) grain = maxGrain_;
    std::atomic<int64_t> next{(n + grain - 1) / grain};
    const auto work = [&](int thread) {
      for (;;) {
        const int64_t chunk = next.fetch_sub(1) - 1;
        if (chunk < 0) return;
        body(chunk * grain, std::min(n, (chunk + 1) * grain), thread);
      }
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads_; ++i) others.emplace_back(work, i);
    work(0);
    for (auto& t : others) t.join();
  }
  int threads() const override { return threads_; }

 private:
  int threads_;
  int64_t maxGrain_;
};

inline bool sameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline std::string firstDifference(const Floats& a, const Floats& b) {
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) {
      char text[128];
      std::snprintf(text, sizeof text, "element %zu: %.9g and %.9g", i, static_cast<double>(a[i]),
                    static_cast<double>(b[i]));
      return text;
    }
  }
  return "sizes";
}

#define CHECK_SAME_BITS(a, b, where) \
  CHECK_MSG(::guildhall::test::sameBits(a, b), std::string(where) + ", " + ::guildhall::test::firstDifference(a, b))

/**
 * Bound for an f32 result against f64, as a part of the largest magnitude involved: a sum of n rounded terms drifts by
 * about sqrt(n) roundings; the factor covers the worst of many elements.
 */
inline double tolerance(int64_t length) {
  return 8.0 * std::sqrt(static_cast<double>(length) + 1.0) * std::numeric_limits<float>::epsilon();
}

/** Largest |a - b| over the largest |b|. */
inline double relativeError(const Floats& a, const Doubles& b) {
  double worst = 0.0, scale = 0.0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(d <= worst)) worst = d;
    scale = std::max(scale, std::abs(b[i]));
  }
  return worst / std::max(scale, 1e-30);
}

inline void checkClose(const char* what, const Floats& a, const Doubles& b, double bound) {
  CHECK(a.size() >= b.size());
  const double error = relativeError(a, b);
  char text[160];
  std::snprintf(text, sizeof text, "%s: error %.3g, bound %.3g", what, error, bound);
  CHECK_MSG(error <= bound, text);
}

/** Names itself when it has passed. */
inline void runTest(const char* name, const std::function<void()>& body) {
  body();
  std::printf("ok %s\n", name);
}

}  // namespace guildhall::test
