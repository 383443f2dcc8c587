#include "bench.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "guildhall/bf16.h"

namespace guildhall::bench {

namespace {

/** More than the last-level cache of one die holds. */
constexpr int64_t kBeyondCaches = int64_t{160} << 20;

WeightFormat formatOf(const std::string& name) {
  const std::map<std::string, WeightFormat> formats = {{"f32", WeightFormat::kF32},
                                                       {"bf16", WeightFormat::kBf16},
                                                       {"fp8", WeightFormat::kFp8},
                                                       {"q8", WeightFormat::kQ8},
                                                       {"q4", WeightFormat::kQ4}};
  const auto found = formats.find(name);
  if (found == formats.end()) throw std::invalid_argument("format: " + name);
  return found->second;
}

}  // namespace

Arguments::Arguments(int count, char** words) {
  for (int i = 0; i < count; ++i) {
    const std::string word = words[i];
    const size_t equals = word.find('=');
    if (equals == std::string::npos) throw std::invalid_argument("expected key=value, got " + word);
    values_[word.substr(0, equals)] = word.substr(equals + 1);
  }
}

int64_t Arguments::number(const std::string& key, int64_t fallback, int64_t least) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return fallback;
  const int64_t value = std::stoll(found->second);
  if (value < least) throw std::invalid_argument(key + " must be at least " + std::to_string(least));
  return value;
}

std::string Arguments::text(const std::string& key, const std::string& fallback) const {
  const auto found = values_.find(key);
  return found == values_.end() ? fallback : found->second;
}

Setup makeSetup(const Arguments& arguments) {
  BackendInfo info;
  info.isa = bestIsa();
  info.bf16Dot = bf16DotSupported();
  info.threads = static_cast<int>(arguments.number("threads", 2));
  Setup setup;
  setup.cpu = std::make_shared<CpuContext>(info, std::make_shared<MemoryLedger>(), nullptr);
  setup.format = formatOf(arguments.text("format", "bf16"));
  return setup;
}

std::vector<float> randomValues(int64_t count, float scale, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;
  for (float& value : values) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    value = scale * (static_cast<float>(state >> 40) * 0x1.0p-23f - 1.0f);
  }
  return values;
}

PackedLinear randomLinear(const Setup& setup, int64_t n, int64_t k, uint64_t seed) {
  const std::vector<float> values = randomValues(n * k, std::sqrt(3.0f / static_cast<float>(k)), seed);
  TensorSource source;
  source.dtype = Dtype::kF32;
  source.sourceRows = n;
  source.cols = k;
  source.data = reinterpret_cast<const uint8_t*>(values.data());
  source.dataBytes = 4 * n * k;
  return PackedLinear::pack({source}, setup.cpu->family(setup.format), setup.cpu->ledger, &setup.cpu->pool);
}

int64_t copiesBeyondCaches(int64_t bytes) { return std::max<int64_t>(2, (kBeyondCaches + bytes - 1) / bytes); }

}  // namespace guildhall::bench
