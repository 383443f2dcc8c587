// Sampling against a full sort in f64, penalties, masks, determinism and log-probabilities.

#include <algorithm>
#include <map>
#include <numeric>

#include "check.h"
#include "guildhall/ops/sampler.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Candidate {
  int32_t id;
  double weight;
  double before;
};

/** Kept ids in descending order with their weights and the mass ahead of each: the definition, in f64. */
std::vector<Candidate> keptIds(const Floats& logits, const SamplerParams& p) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
  if (p.topK > 0 && p.topK < static_cast<int32_t>(order.size())) order.resize(static_cast<size_t>(p.topK));
  const double top = logits[static_cast<size_t>(order[0])];
  double total = 0.0;
  for (const int32_t id : order)
    total += std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) - top) / static_cast<double>(p.temperature));
  std::vector<Candidate> kept;
  double before = 0.0;
  for (const int32_t id : order) {
    const double weight =
        std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) - top) / static_cast<double>(p.temperature));
    if (before >= static_cast<double>(p.topP) * total || weight < static_cast<double>(p.minP)) break;
    kept.push_back({id, weight, before});
    before += weight;
  }
  return kept;
}

Sample draw(const OpsTable& t, const Floats& logits, const SamplerParams& p, int64_t position = 0) {
  Sampler sampler(static_cast<int32_t>(logits.size()), p, nullptr, 0);
  // Position without counts that a penalty would see.
  for (int64_t i = 0; i < position; ++i) sampler.accept(-1);
  SamplerScratch scratch;
  Sample sample;
  CHECK(sampler.sample(t, logits.data(), nullptr, scratch, sample) == SampleStatus::Ok);
  return sample;
}

/** The sampled id's interval of the cumulative distribution holds the uniform, up to f32 rounding of the weights. */
void checkDraws(const char* what, const Floats& logits, SamplerParams p, int draws) {
  const std::vector<Candidate> kept = keptIds(logits, p);
  const double mass = kept.back().before + kept.back().weight;
  std::map<int32_t, Candidate> byId;
  for (const Candidate& c : kept) byId[c.id] = c;
  for (int i = 0; i < draws; ++i) {
    p.seed = static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u;
    p.choice = static_cast<uint32_t>(i % 3);
    const int32_t id = draw(*tables()[0], logits, p, i % 5).id;
    for (const OpsTable* t : tables()) CHECK(draw(*t, logits, p, i % 5).id == id);
    const double at = uniformAt(p.seed, p.choice, static_cast<uint64_t>(i % 5), 0) * mass;
    const auto found = byId.find(id);
    // The last id kept may differ where the cut falls on a rounding error.
    CHECK_MSG(found != byId.end() || at > mass * (1.0 - 1e-4), what);
    if (found == byId.end()) continue;
    const double slack = 2e-6 * mass + 1e-3 * kept.back().weight;
    CHECK_MSG(at >= found->second.before - slack && at <= found->second.before + found->second.weight + slack, what);
  }
}

void checkAgainstSort() {
  Random random(1);
  for (const int64_t vocab : {1, 2, 17, 300, 5000}) {
    const Floats peaked = random.normals(vocab, 4.0f), flat = random.normals(vocab, 0.01f);
    Floats tied(static_cast<size_t>(vocab));
    for (float& x : tied) x = static_cast<float>(random.integer(0, 3));
    for (const Floats* logits : std::initializer_list<const Floats*>{&peaked, &flat, &tied}) {
      for (const float temperature : {0.3f, 1.0f, 2.0f}) {
        for (const int32_t topK : {0, 1, 20, 1000}) {
          for (const float topP : {1.0f, 0.9f, 0.3f}) {
            for (const float minP : {0.0f, 0.2f}) {
              SamplerParams p;
              p.temperature = temperature;
              p.topK = topK;
              p.topP = topP;
              p.minP = minP;
              checkDraws("draw", *logits, p, vocab > 1000 ? 2 : 6);
            }
          }
        }
      }
    }
  }
}

/** The cut of top-p is the smallest set that reaches it, also where it is reached exactly. */
void checkExactCut() {
  const Floats equal(4, 1.0f);
  SamplerParams p;
  p.topP = 0.5f;
  for (const int32_t topK : {0, 3}) {
    p.topK = topK;
    const size_t expected = 2;
    std::map<int32_t, int> seen;
    for (uint64_t seed = 0; seed < 200; ++seed) {
      p.seed = seed;
      ++seen[draw(ops(bestIsa()), equal, p).id];
    }
    CHECK(seen.size() == expected && seen.count(0) == 1 && seen.count(1) == 1);
  }
}

void checkFrequencies() {
  const Floats logits = {std::log(0.5f), -kInfinity, std::log(0.25f), std::log(0.125f), -kInfinity, std::log(0.125f)};
  SamplerParams p;
  p.seed = 7;
  std::map<int32_t, int> seen;
  constexpr int kDraws = 20000;
  Sampler sampler(6, p, nullptr, 0);
  SamplerScratch scratch;
  for (int i = 0; i < kDraws; ++i) {
    Sample s;
    CHECK(sampler.sample(ops(bestIsa()), logits.data(), nullptr, scratch, s) == SampleStatus::Ok);
    ++seen[s.id];
    sampler.accept(s.id);
  }
  CHECK(seen.count(1) == 0 && seen.count(4) == 0);
  for (const auto& [id, count] : seen) {
    const double expected = std::exp(static_cast<double>(logits[static_cast<size_t>(id)])) * kDraws;
    CHECK(std::abs(count - expected) < 5.0 * std::sqrt(expected));
  }
}

void checkPhilox() {
  using Counter = std::array<uint32_t, 4>;
  // Known answers published with Random123.
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) == (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  double total = 0.0;
  for (uint64_t i = 0; i < 10000; ++i) {
    const double u = uniformAt(42, 1, i, 0);
    CHECK(u >= 0.0 && u < 1.0);
    total += u;
  }
  CHECK(std::abs(total / 10000.0 - 0.5) < 0.02);
  CHECK(uniformAt(1, 0, 0, 0) != uniformAt(2, 0, 0, 0) && uniformAt(1, 0, 0, 0) != uniformAt(1, 1, 0, 0));
  CHECK(uniformAt(1, 0, 0, 0) != uniformAt(1, 0, 1, 0) && uniformAt(1, 0, 0, 0) != uniformAt(1, 0, 0, 1));
  CHECK(uniformAt(1, 0, uint64_t{1} << 32, 0) != uniformAt(1, 0, 0, 0) &&
        uniformAt(uint64_t{1} << 32, 0, 0, 0) != uniformAt(0, 0, 0, 0));
}

int32_t greedy(const Floats& logits, SamplerParams p, const std::vector<int32_t>& prompt,
               const std::vector<int32_t>& generated) {
  p.temperature = 0.0f;
  Sampler sampler(static_cast<int32_t>(logits.size()), p, prompt.data(), static_cast<int64_t>(prompt.size()));
  for (const int32_t id : generated) sampler.accept(id);
  SamplerScratch scratch;
  Sample sample;
  CHECK(sampler.sample(ops(bestIsa()), logits.data(), nullptr, scratch, sample) == SampleStatus::Ok);
  return sample.id;
}

void checkPenalties() {
  const Floats logits = {3.0f, 2.5f, 2.0f, -1.0f};
  SamplerParams p;
  CHECK(greedy(logits, p, {0, 1}, {0}) == 0);
  CHECK(greedy({1.0f, 2.0f, 2.0f}, p, {}, {}) == 1);
  // Repetition counts the prompt: 3/2 < 2.5, and with 1 in the prompt 2.5/2 < 2.
  p.repetitionPenalty = 2.0f;
  CHECK(greedy(logits, p, {0}, {}) == 1);
  CHECK(greedy(logits, p, {0, 1}, {}) == 2);
  CHECK(greedy(logits, p, {0}, {1}) == 2);
  CHECK(greedy({-1.0f, -1.5f}, p, {0}, {}) == 1);
  // Presence and frequency count generated tokens only.
  p = SamplerParams{};
  p.presencePenalty = 0.6f;
  CHECK(greedy(logits, p, {0, 0, 0}, {}) == 0);
  CHECK(greedy(logits, p, {}, {0}) == 1);
  CHECK(greedy(logits, p, {}, {0, 0, 0, 0, 1}) == 0);
  p = SamplerParams{};
  p.frequencyPenalty = 0.3f;
  CHECK(greedy(logits, p, {}, {0}) == 0);
  CHECK(greedy(logits, p, {}, {0, 0}) == 1);
  CHECK(greedy(logits, p, {}, {0, 0, 0, 0, 1, 1}) == 2);
  // Ids outside the vocabulary (media placeholders) do no harm.
  CHECK(greedy(logits, p, {-1, 4, 1000000}, {}) == 0);
}

void checkBiasAndSuppression() {
  const Floats logits = {3.0f, 2.5f, 2.0f, -kInfinity};
  SamplerParams p;
  p.biasIds = {2, 3};
  p.biasValues = {5.0f, 100.0f};
  CHECK(greedy(logits, p, {}, {}) == 2);
  p.stopIds = {2, 0};
  p.minTokens = 2;
  CHECK(greedy(logits, p, {}, {}) == 1);
  CHECK(greedy(logits, p, {}, {1}) == 1);
  CHECK(greedy(logits, p, {}, {1, 1}) == 2);
}

void checkRefusals() {
  SamplerScratch scratch;
  for (const float temperature : {0.0f, 1.0f}) {
    for (const int32_t topK : {0, 2}) {
      SamplerParams p;
      p.temperature = temperature;
      p.topK = topK;
      Sampler sampler(3, p, nullptr, 0);
      Sample sample;
      for (const OpsTable* t : tables()) {
        const Floats nan = {1.0f, std::numeric_limits<float>::quiet_NaN(), 2.0f}, infinite = {1.0f, kInfinity, 2.0f},
                     masked(3, -kInfinity);
        CHECK(sampler.sample(*t, nan.data(), nullptr, scratch, sample) == SampleStatus::BadLogits);
        CHECK(sampler.sample(*t, infinite.data(), nullptr, scratch, sample) == SampleStatus::BadLogits);
        CHECK(sampler.sample(*t, masked.data(), nullptr, scratch, sample) == SampleStatus::AllMasked);
        CHECK(tokenLogprobs(*t, nan.data(), 3, 0, 2, scratch, sample) == SampleStatus::BadLogits);
      }
    }
  }
}

void checkMasked() {
  Random random(9);
  Floats logits = random.normals(1000, 0.1f);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i % 7 != 3) logits[i] = -kInfinity;
  }
  for (const int32_t topK : {0, 500}) {
    for (const float temperature : {1.0f, 100.0f, 1e-5f, 1e6f}) {
      SamplerParams p;
      p.topK = topK;
      p.temperature = temperature;
      for (uint64_t seed = 0; seed < 100; ++seed) {
        p.seed = seed;
        CHECK(draw(ops(bestIsa()), logits, p).id % 7 == 3);
      }
    }
  }
}

/**
 * A mask gives what logits of -infinity give in its place, under every other parameter; a full one changes no bit; numbers
 * of the raw logits are reported.
 */
void checkAllowed() {
  Random random(21);
  // No multiple of 32: the last word has bits beyond the vocabulary.
  constexpr int32_t kVocab = 1003;
  const Floats logits = random.normals(kVocab, 3.0f);
  SamplerScratch scratch;
  for (int round = 0; round < 200; ++round) {
    SamplerParams p;
    p.temperature = round % 4 == 0 ? 0.0f : 1.3f;
    p.topK = round % 3 == 0 ? 0 : 50;
    p.topP = round % 5 == 0 ? 1.0f : 0.8f;
    p.minP = round % 7 == 0 ? 0.1f : 0.0f;
    p.repetitionPenalty = round % 2 == 0 ? 1.0f : 1.4f;
    p.seed = static_cast<uint64_t>(round);
    p.topLogprobs = 3;
    std::vector<uint32_t> allowed(static_cast<size_t>(allowedWords(kVocab)), round % 2 == 0 ? 0u : ~0u);
    Floats masked = logits;
    for (int32_t id = 0; id < kVocab; ++id) {
      // Sparse, dense, and words of each kind.
      const bool keep = id == 1000 || (id / 32 % 3 != round % 3 && random.integer(0, 9) < 3);
      uint32_t& word = allowed[static_cast<size_t>(id / 32)];
      const uint32_t bit = 1u << (id % 32);
      word = keep ? word | bit : word & ~bit;
      if (!keep) masked[static_cast<size_t>(id)] = -kInfinity;
    }
    Sampler sampler(kVocab, p, nullptr, 0);
    for (const int32_t id : {3, 1000, 77}) sampler.accept(id);
    Sample expected, raw;
    CHECK(sampler.sample(*tables()[0], masked.data(), nullptr, scratch, expected) == SampleStatus::Ok);
    CHECK(tokenLogprobs(*tables()[0], logits.data(), kVocab, expected.id, 3, scratch, raw) == SampleStatus::Ok);
    const std::vector<uint32_t> all(allowed.size(), ~0u), nothing(allowed.size(), 0u);
    Sample free;
    CHECK(sampler.sample(*tables()[0], logits.data(), nullptr, scratch, free) == SampleStatus::Ok);
    for (const OpsTable* t : tables()) {
      Sample s;
      CHECK(sampler.sample(*t, logits.data(), allowed.data(), scratch, s) == SampleStatus::Ok);
      CHECK(s.id == expected.id && std::abs(s.logprob - raw.logprob) < 1e-5f && s.topIds == raw.topIds);
      CHECK(sampler.sample(*t, logits.data(), all.data(), scratch, s) == SampleStatus::Ok && s.id == free.id);
      CHECK(sampler.sample(*t, logits.data(), nothing.data(), scratch, s) == SampleStatus::AllMasked);
      Floats bad = logits;
      bad[5] = std::numeric_limits<float>::quiet_NaN();
      CHECK(sampler.sample(*t, bad.data(), nothing.data(), scratch, s) == SampleStatus::BadLogits);
    }
  }
}

void checkLogprobs() {
  Random random(4);
  Floats logits = random.normals(3000, 5.0f);
  logits[10] = logits[2000] = 40.0f;
  logits[11] = -kInfinity;
  double total = 0.0;
  for (const float x : logits) total += std::exp(static_cast<double>(x) - 40.0);
  const double logSum = 40.0 + std::log(total);
  SamplerScratch scratch;
  for (const OpsTable* t : tables()) {
    for (const int32_t top : {0, 1, 5, 300}) {
      Sample s;
      CHECK(tokenLogprobs(*t, logits.data(), 3000, 77, top, scratch, s) == SampleStatus::Ok);
      CHECK(s.id == 77 &&
            std::abs(static_cast<double>(s.logprob) - (static_cast<double>(logits[77]) - logSum)) < 1e-5 * std::abs(logSum));
      CHECK(s.topIds.size() == static_cast<size_t>(top));
      if (top >= 2) CHECK(s.topIds[0] == 10 && s.topIds[1] == 2000);
      for (size_t i = 1; i < s.topIds.size(); ++i) CHECK(s.topLogprobs[i - 1] >= s.topLogprobs[i]);
    }
    SamplerParams p;
    p.topLogprobs = 2;
    p.temperature = 0.0f;
    p.biasIds = {5};
    p.biasValues = {1000.0f};
    const Sample s = draw(*t, logits, p);
    // Raw distribution: the bias moved the choice, not the reported probability.
    CHECK(s.id == 5 && s.topIds.size() == 2 && s.topIds[0] == 10 && s.logprob < -5.0f);
    Floats few(20, -kInfinity);
    few[3] = 0.0f;
    Sample lone;
    CHECK(tokenLogprobs(*t, few.data(), 20, 3, 5, scratch, lone) == SampleStatus::Ok);
    CHECK(lone.topIds.size() == 1 && lone.logprob == 0.0f);
  }
}

/** A replay of accepted tokens gives the next sample again; another seed or choice is another stream. */
void checkReplay() {
  Random random(6);
  const Floats logits = random.normals(500);
  const auto stream = [&](uint64_t seed, uint32_t choice) {
    SamplerParams p;
    p.seed = seed;
    p.choice = choice;
    p.presencePenalty = 0.5f;
    std::vector<int32_t> ids;
    Sampler live(500, p, nullptr, 0);
    SamplerScratch scratch;
    for (int i = 0; i < 20; ++i) {
      Sample s, again;
      CHECK(live.sample(ops(bestIsa()), logits.data(), nullptr, scratch, s) == SampleStatus::Ok);
      Sampler replayed(500, p, nullptr, 0);
      for (const int32_t id : ids) replayed.accept(id);
      SamplerScratch fresh;
      CHECK(replayed.sample(*tables()[0], logits.data(), nullptr, fresh, again) == SampleStatus::Ok && again.id == s.id);
      ids.push_back(s.id);
      live.accept(s.id);
      CHECK(live.numGenerated() == i + 1);
    }
    return ids;
  };
  CHECK(stream(1, 0) == stream(1, 0));
  CHECK(stream(1, 0) != stream(2, 0) && stream(1, 0) != stream(1, 1));
}

/** The size of a real vocabulary, in the cases that could be slow or lose their way: flat, ascending, all equal. */
void checkLargeVocabulary() {
  constexpr int32_t kVocab = 248320;
  Random random(12);
  Floats flat = random.normals(kVocab, 0.5f), ascending(kVocab), equal(kVocab, 2.0f);
  for (int32_t i = 0; i < kVocab; ++i) ascending[static_cast<size_t>(i)] = static_cast<float>(i) * 1e-5f;
  for (const Floats* logits : std::initializer_list<const Floats*>{&flat, &ascending, &equal}) {
    for (const int32_t topK : {0, 40, 5000}) {
      for (const float topP : {1.0f, 0.7f}) {
        SamplerParams p;
        p.topK = topK;
        p.topP = topP;
        checkDraws("large vocabulary", *logits, p, 1);
      }
    }
  }
}

}  // namespace

int main() {
  runTest("philox", checkPhilox);
  runTest("against a full sort", checkAgainstSort);
  runTest("exact cut", checkExactCut);
  runTest("frequencies", checkFrequencies);
  runTest("penalties", checkPenalties);
  runTest("bias and suppression", checkBiasAndSuppression);
  runTest("refusals", checkRefusals);
  runTest("masked ids", checkMasked);
  runTest("allowed ids", checkAllowed);
  runTest("log-probabilities", checkLogprobs);
  runTest("replay", checkReplay);
  runTest("large vocabulary", checkLargeVocabulary);
  return 0;
}
