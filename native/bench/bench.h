#pragma once

// What the micro-benchmarks share: a median of timed runs, a read-bandwidth probe, deterministic numbers, one line of
// output a figure.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "guildhall/thread_pool.h"

namespace guildhall::bench {

using Floats = std::vector<float>;

/** Seconds that `body` takes. */
inline double secondsOf(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/** Median seconds of `runs` calls after one that warms up. */
inline double medianSeconds(int runs, const std::function<void()>& body) {
  body();
  std::vector<double> seconds;
  for (int i = 0; i < runs; ++i) seconds.push_back(secondsOf(body));
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

/** Uniform in [low, high), the same in every run. */
inline Floats numbers(int64_t n, float low, float high, uint32_t seed = 1) {
  Floats out(static_cast<size_t>(n));
  for (float& x : out) {
    seed = seed * 1664525u + 1013904223u;
    x = low + (high - low) * static_cast<float>(seed >> 8) * 0x1.0p-24f;
  }
  return out;
}

/** Bytes a second that the pool's threads read from an array far larger than the caches. */
inline double readBandwidth(ThreadPool& pool) {
  static const Floats data(size_t{96} << 20, 1.0f);
  static volatile float sink = 0.0f;
  const int64_t blocks = 4 * pool.threads();
  const auto blockFloats = static_cast<int64_t>(data.size()) / blocks;
  const double seconds = medianSeconds(3, [&] {
    pool.run(blocks, [&](int64_t begin, int64_t end, int) {
      for (int64_t block = begin; block < end; ++block) {
        const float* p = data.data() + block * blockFloats;
        float sums[64] = {};
        for (int64_t i = 0; i + 64 <= blockFloats; i += 64) {
          for (int64_t j = 0; j < 64; ++j) sums[j] += p[i + j];
        }
        for (const float x : sums) sink = sink + x;
      }
    });
  });
  return static_cast<double>(data.size()) * 4.0 / seconds;
}

inline void line(const char* name, double seconds, const char* note) {
  std::printf("%-44s %10.3f ms  %s\n", name, seconds * 1e3, note);
  std::fflush(stdout);
}

}  // namespace guildhall::bench
