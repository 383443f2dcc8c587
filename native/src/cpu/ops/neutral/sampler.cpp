#include "guildhall/ops/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "selection.h"

namespace guildhall {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
/** Below this the distribution is its largest element. */
constexpr float kGreedyTemperature = 1e-5f;
/** Distances below the largest logit, in temperatures, up to which candidates are gathered; at 104 exp is 0. */
constexpr float kReaches[] = {4.0f, 10.0f, 24.0f, 104.0f};

SampleStatus checkTop(float top) {
  if (std::isnan(top) || top == kInfinity) return SampleStatus::BadLogits;
  return top == -kInfinity ? SampleStatus::AllMasked : SampleStatus::Ok;
}

/** Sets the logits of ids without their bit to -infinity. Most words of a mask are all zeros or all ones. */
void maskLogits(float* logits, const uint32_t* allowed, int32_t vocab) {
  for (int32_t first = 0; first < vocab; first += 32) {
    const uint32_t word = allowed[first / 32];
    if (word == ~0u) continue;
    const int32_t count = std::min(32, vocab - first);
    if (word == 0) {
      std::fill_n(logits + first, count, -kInfinity);
      continue;
    }
    for (int32_t bit = 0; bit < count; ++bit) {
      if ((word >> bit & 1u) == 0) logits[first + bit] = -kInfinity;
    }
  }
}

/** One draw from logits after penalties. */
class Draw {
 public:
  Draw(const OpsTable& ops, const SamplerParams& params, SamplerScratch& scratch, int32_t vocab, float top, double uniform)
      : ops_(ops),
        params_(params),
        scratch_(scratch),
        vocab_(vocab),
        top_(top),
        factor_(1.0f / params.temperature),
        uniform_(uniform) {}

  int32_t run() {
    if (params_.topK > 0 && params_.topK < vocab_) return fromTopK();
    scratch_.weights.resize(static_cast<size_t>(vocab_));
    const double total = ops_.expSum(scratch_.logits.data(), top_, factor_, scratch_.weights.data(), vocab_);
    uint64_t cut = 0;
    double mass = total;
    if (params_.topP < 1.0f) {
      double before = 0.0;
      cut = locate(static_cast<double>(params_.topP) * total, true, before);
      mass = before + scratch_.weights[static_cast<size_t>(idOfKey(cut))];
    }
    if (params_.minP > 0.0f) return fromLikely(cut);
    double before = 0.0;
    return idOfKey(std::max(cut, locate(uniform_ * mass, false, before)));
  }

 private:
  /** The k best are few and sorted: everything else is a walk over their weights. */
  int32_t fromTopK() {
    auto& keys = scratch_.keys;
    auto& weights = scratch_.weights;
    topKeys(scratch_.logits.data(), vocab_, params_.topK, keys);
    weights.resize(keys.size());
    for (size_t i = 0; i < keys.size(); ++i)
      weights[i] = (scratch_.logits[static_cast<size_t>(idOfKey(keys[i]))] - top_) * factor_;
    ops_.exp(weights.data(), weights.data(), static_cast<int64_t>(weights.size()));
    double total = 0.0;
    for (const float w : weights) total += w;
    const double reach = params_.topP < 1.0f ? static_cast<double>(params_.topP) * total : kInfinity;
    size_t kept = 0;
    double mass = 0.0;
    while (kept < weights.size() && weights[kept] > 0.0f && weights[kept] >= params_.minP && mass < reach)
      mass += weights[kept++];
    double sum = 0.0;
    for (size_t i = 0; i + 1 < kept; ++i) {
      sum += weights[i];
      if (sum > uniform_ * mass) return idOfKey(keys[i]);
    }
    return idOfKey(keys[kept - 1]);
  }

  /** Ids at least minP times as likely as the best, and not below the cut of top-p. */
  int32_t fromLikely(uint64_t cut) {
    scratch_.ids.resize(static_cast<size_t>(vocab_));
    const float* weights = scratch_.weights.data();
    const int64_t count = ops_.indexesAtLeast(weights, params_.minP, scratch_.ids.data(), vocab_, vocab_);
    double mass = takeKeys(count, cut);
    double before = 0.0;
    return idOfKey(keyAtMass(scratch_.keys, weights, uniform_ * mass, false, before));
  }

  /** keyAtMass over all ids, gathering only those near the top unless the target lies deeper. */
  uint64_t locate(double target, bool reach, double& before) {
    scratch_.ids.resize(static_cast<size_t>(vocab_));
    const float* weights = scratch_.weights.data();
    for (const float distance : kReaches) {
      const float threshold = top_ - distance * params_.temperature;
      const int64_t count = ops_.indexesAtLeast(scratch_.logits.data(), threshold, scratch_.ids.data(), vocab_, vocab_);
      if (takeKeys(count, 0) > target) break;
    }
    return keyAtMass(scratch_.keys, weights, target, reach, before);
  }

  /** Keys of the first `count` gathered ids that have weight and are not below the cut; returns their mass. */
  double takeKeys(int64_t count, uint64_t cut) {
    scratch_.keys.clear();
    double mass = 0.0;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t id = scratch_.ids[static_cast<size_t>(i)];
      const float weight = scratch_.weights[static_cast<size_t>(id)];
      const uint64_t key = orderKey(scratch_.logits[static_cast<size_t>(id)], id);
      if (!(weight > 0.0f) || key < cut) continue;
      mass += weight;
      scratch_.keys.push_back(key);
    }
    return mass;
  }

  const OpsTable& ops_;
  const SamplerParams& params_;
  SamplerScratch& scratch_;
  int32_t vocab_;
  float top_;
  float factor_;
  double uniform_;
};

}  // namespace

Sampler::Sampler(int32_t vocab, SamplerParams params, const int32_t* promptIds, int64_t numPromptIds)
    : vocab_(vocab), params_(std::move(params)) {
  for (int64_t i = 0; i < numPromptIds; ++i) {
    if (promptIds[i] >= 0 && promptIds[i] < vocab) seen_[promptIds[i]].inPrompt = true;
  }
}

void Sampler::accept(int32_t id) {
  ++numGenerated_;
  if (id >= 0 && id < vocab_) ++seen_[id].generated;
}

bool Sampler::changesLogits() const {
  return !params_.biasIds.empty() || (numGenerated_ < params_.minTokens && !params_.stopIds.empty()) || penalized();
}

bool Sampler::penalized() const {
  return params_.repetitionPenalty != 1.0f || params_.presencePenalty != 0.0f || params_.frequencyPenalty != 0.0f;
}

void Sampler::applyPenalties(float* logits) const {
  for (size_t i = 0; i < params_.biasIds.size(); ++i) logits[params_.biasIds[i]] += params_.biasValues[i];
  if (numGenerated_ < params_.minTokens) {
    for (const int32_t id : params_.stopIds) logits[id] = -kInfinity;
  }
  if (!penalized()) return;
  for (const auto& [id, seen] : seen_) {
    float& logit = logits[id];
    logit = logit > 0.0f ? logit / params_.repetitionPenalty : logit * params_.repetitionPenalty;
    if (seen.generated == 0) continue;
    logit -= params_.frequencyPenalty * static_cast<float>(seen.generated);
    logit -= params_.presencePenalty;
  }
}

SampleStatus Sampler::sample(const OpsTable& ops, const float* logits, const uint32_t* allowed, SamplerScratch& scratch,
                             Sample& out) const {
  const bool greedy = params_.temperature < kGreedyTemperature;
  const float* values = logits;
  if (allowed != nullptr) {
    // A mask must not hide logits that are no numbers: what is allowed beside them is worth nothing.
    const SampleStatus raw = checkTop(ops.maxValue(logits, vocab_));
    if (raw != SampleStatus::Ok) return raw;
  }
  // The most likely token of unchanged logits is found where they are, without a copy.
  if (!greedy || allowed != nullptr || changesLogits()) {
    scratch.logits.assign(logits, logits + vocab_);
    if (allowed != nullptr) maskLogits(scratch.logits.data(), allowed, vocab_);
    applyPenalties(scratch.logits.data());
    values = scratch.logits.data();
  }
  const float top = ops.maxValue(values, vocab_);
  const SampleStatus status = checkTop(top);
  if (status != SampleStatus::Ok) return status;
  int32_t id = -1;
  if (greedy) {
    ops.indexesAtLeast(values, top, &id, 1, vocab_);
  } else {
    const double uniform = uniformAt(params_.seed, params_.choice, static_cast<uint64_t>(numGenerated_), 0);
    id = Draw(ops, params_, scratch, vocab_, top, uniform).run();
  }
  if (params_.topLogprobs >= 0) return tokenLogprobs(ops, logits, vocab_, id, params_.topLogprobs, scratch, out);
  out = Sample{};
  out.id = id;
  return SampleStatus::Ok;
}

SampleStatus tokenLogprobs(const OpsTable& ops, const float* logits, int32_t vocab, int32_t id, int32_t top,
                           SamplerScratch& scratch, Sample& out) {
  out = Sample{};
  const float best = ops.maxValue(logits, vocab);
  const SampleStatus status = checkTop(best);
  if (status != SampleStatus::Ok) return status;
  const double logSum = static_cast<double>(best) + std::log(ops.expSum(logits, best, 1.0f, nullptr, vocab));
  const auto logprob = [=](int32_t i) { return static_cast<float>(static_cast<double>(logits[i]) - logSum); };
  out.id = id;
  out.logprob = logprob(id);
  topKeys(logits, vocab, top, scratch.keys);
  for (const uint64_t key : scratch.keys) {
    out.topIds.push_back(idOfKey(key));
    out.topLogprobs.push_back(logprob(idOfKey(key)));
  }
  return SampleStatus::Ok;
}

}  // namespace guildhall
