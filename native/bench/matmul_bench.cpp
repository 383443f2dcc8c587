// Products of the bench model's shapes in every weight format: many experts once through from memory with few rows each
// (GB/s of weights, beside the read bandwidth around it), and large products from the cache (GFLOP/s).

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "guildhall/matmul.h"
#include "guildhall/thread_pool.h"

using namespace guildhall;

namespace {

double secondsNow() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename Body>
double medianSeconds(int runs, Body body) {
  body();
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const double start = secondsNow();
    body();
    times.push_back(secondsNow() - start);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Format {
  const char* name;
  KernelFamily family;
};

constexpr Format kFormats[] = {{"bf16", KernelFamily::kBf16Dot},
                               {"fp8", KernelFamily::kFp8Dot},
                               {"q8", KernelFamily::kQ8Dot},
                               {"q4", KernelFamily::kQ4Dot}};

std::vector<float> numbers(int64_t n) {
  std::vector<float> out(static_cast<size_t>(n));
  uint32_t seed = 1;
  for (float& x : out) {
    seed = seed * 1664525u + 1013904223u;
    x = static_cast<float>(seed >> 8) * 0x1.0p-23f - 1.0f;
  }
  return out;
}

PackedLinear randomWeight(int64_t n, int64_t k, KernelFamily family, ThreadPool& pool) {
  static const std::vector<float> values = numbers(int64_t{4096} * 2048);
  TensorSource source;
  source.sourceRows = n;
  source.cols = k;
  source.data = reinterpret_cast<const uint8_t*>(values.data());
  source.dataBytes = n * k * 4;
  return PackedLinear::pack({source}, family, nullptr, &pool);
}

double bandwidth(ThreadPool& pool) {
  static const std::vector<float> data(size_t{128} << 20, 1.0f);
  static volatile float sink = 0.0f;
  const int64_t blocks = 8 * pool.threads();
  const auto each = static_cast<int64_t>(data.size()) / blocks;
  const double seconds = medianSeconds(2, [&] {
    pool.run(blocks, [&](int64_t begin, int64_t, int) {
      const float* const p = data.data() + begin * each;
      float sums[128] = {};
      for (int64_t i = 0; i + 128 <= each; i += 128) {
        for (int64_t j = 0; j < 128; ++j) sums[j] += p[i + j];
      }
      for (const float x : sums) sink = sink + x;
    });
  });
  return static_cast<double>(data.size()) * 4e-9 / seconds;
}

void stream(const Format& format, ThreadPool& pool, const std::vector<int64_t>& rowCounts) {
  constexpr int64_t kExperts = 256;
  constexpr int64_t kN = 1024;
  constexpr int64_t kK = 1024;
  std::vector<PackedLinear> experts;
  for (int64_t e = 0; e < kExperts; ++e) experts.push_back(randomWeight(kN, kK, format.family, pool));
  const MatmulKernels& kernels = matmulKernels(bestIsa());
  const std::vector<float> x = numbers(64 * kK);
  Arena arena(nullptr);
  const MatmulInput input = prepareInput(kernels, format.family, x.data(), kK, 64, kK, arena, pool);
  for (const int64_t rows : rowCounts) {
    std::vector<std::vector<float>> y(8, std::vector<float>(static_cast<size_t>(rows * kN)));
    const double before = bandwidth(pool);
    const double seconds = medianSeconds(5, [&] {
      pool.setInCall(true);
      for (int64_t e = 0; e < kExperts; e += 8) {
        std::vector<MatmulJob> jobs;
        for (int64_t i = 0; i < 8; ++i)
          jobs.push_back({&experts[static_cast<size_t>(e + i)], input, rows, y[static_cast<size_t>(i)].data(), kN});
        matmul(kernels, pool, jobs);
      }
      pool.setInCall(false);
    });
    const double after = bandwidth(pool);
    const double bytes = static_cast<double>(experts[0].bytes()) * kExperts;
    const double rate = bytes * 1e-9 / seconds;
    std::printf("%-5s %d threads, %2lld rows an expert: %6.1f GB/s = %3.0f %% of %.1f..%.1f, %7.1f GFLOP/s\n", format.name,
                pool.threads(), static_cast<long long>(rows), rate, 200 * rate / (before + after), before, after,
                2e-9 * static_cast<double>(rows * kN * kK * kExperts) / seconds);
    std::fflush(stdout);
  }
}

void large(const Format& format, ThreadPool& pool, int64_t rows, int64_t n, int64_t k) {
  const PackedLinear weight = randomWeight(n, k, format.family, pool);
  const MatmulKernels& kernels = matmulKernels(bestIsa());
  const std::vector<float> x = numbers(rows * k);
  std::vector<float> y(static_cast<size_t>(rows * n));
  Arena arena(nullptr);
  const MatmulInput input = prepareInput(kernels, format.family, x.data(), k, rows, k, arena, pool);
  const double work = 2e-9 * static_cast<double>(rows * n * k);
  const double seconds = medianSeconds(static_cast<int>(std::max(5.0, 40 / work)), [&] {
    pool.setInCall(true);
    matmul(kernels, pool, {{&weight, input, rows, y.data(), n}});
    pool.setInCall(false);
  });
  std::printf("%-5s %d threads, [%lld, %lld] x [%lld, %lld]: %7.1f GFLOP/s\n", format.name, pool.threads(),
              static_cast<long long>(rows), static_cast<long long>(k), static_cast<long long>(n),
              static_cast<long long>(k), work / seconds);
  std::fflush(stdout);
}

}  // namespace

/** Arguments: what (stream, large, all), a format or all, threads (both 1 and 2 by default). */
int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "all";
  const std::string only = argc > 2 ? argv[2] : "all";
  std::vector<int> threads = {1, 2};
  if (argc > 3) threads = {std::atoi(argv[3])};
  for (const int count : threads) {
    ThreadPool pool(count);
    for (const Format& format : kFormats) {
      if (only != "all" && only != format.name) continue;
      if (what != "large") stream(format, pool, {1, 2, 4, 6, 8, 12, 16, 32, 64});
      if (what == "stream") continue;
      for (const auto& shape : std::vector<std::vector<int64_t>>{{512, 4096, 1024}, {512, 1024, 2048}, {64, 1024, 1024}, {16, 4096, 1024}, {32, 4096, 1024}})
        large(format, pool, shape[0], shape[1], shape[2]);
    }
  }
  return 0;
}
