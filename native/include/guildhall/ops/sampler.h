#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "guildhall/ops/ops.h"

namespace guildhall {

/** Checked by the caller: ids inside the vocabulary, finite values, temperature >= 0, 0 < topP <= 1, 0 <= minP <= 1, penalty > 0. */
struct SamplerParams {
  /** 0: the largest logit, ties to the lower id. */
  float temperature = 1.0f;
  /** Keep the k largest; 0 or past the vocabulary means all. */
  int32_t topK = 0;
  /** Keep the smallest set of most likely ids whose probability, among those that topK kept, reaches this. */
  float topP = 1.0f;
  /** Drop ids less likely than this times the most likely one. */
  float minP = 0.0f;
  /** Logits of ids in the prompt or generated: divided by this when positive, multiplied when negative. */
  float repetitionPenalty = 1.0f;
  /** Subtracted from logits of generated ids, once, and once for each time. */
  float presencePenalty = 0.0f;
  float frequencyPenalty = 0.0f;
  uint64_t seed = 0;
  uint32_t choice = 0;
  std::vector<int32_t> biasIds;
  std::vector<float> biasValues;
  /** May not be sampled before minTokens were generated. */
  std::vector<int32_t> stopIds;
  int64_t minTokens = 0;
  /** -1 none, 0 the sampled token's log-probability, n also its n best alternatives. */
  int32_t topLogprobs = -1;
};

enum class SampleStatus : int {
  Ok = 0,
  /** A logit is NaN or +infinity. */
  BadLogits = 1,
  /** Every id is masked. */
  AllMasked = 2,
};

struct Sample {
  int32_t id = -1;
  /** Under softmax of the raw logits; 0 when not asked for. */
  float logprob = 0.0f;
  /** Descending log-probability, ties to the lower id. */
  std::vector<int32_t> topIds;
  std::vector<float> topLogprobs;
};

/** Buffers that calls on one thread reuse. Grows to about 8 bytes per vocabulary entry. */
struct SamplerScratch {
  std::vector<float> logits;
  std::vector<float> weights;
  std::vector<int32_t> ids;
  std::vector<uint64_t> keys;
};

/**
 * Parameters of one choice of one request, and the counts of its tokens. Order of operations: ids that are not allowed,
 * bias, suppressed ids, repetition, frequency and presence penalties, temperature, top-k, top-p, min-p, then one uniform
 * number and the inverse cumulative distribution in descending probability (ties: lower id). The uniform is Philox4x32-10 keyed by the seed at
 * counter (choice, number of generated tokens, draw 0), so that a replay samples the same.
 */
class Sampler {
 public:
  /** Prompt ids outside [0, vocab) (media placeholders) are ignored. */
  Sampler(int32_t vocab, SamplerParams params, const int32_t* promptIds, int64_t numPromptIds);

  /** Counts a generated (or replayed) token. */
  void accept(int32_t id);

  int64_t numGenerated() const { return numGenerated_; }
  int32_t vocab() const { return vocab_; }
  const SamplerParams& params() const { return params_; }

  /**
   * Samples from logits [vocab], which stay as they are. Does not accept. Thread-safe against other calls of sample.
   * `allowed`, unless null, has bit (id % 32) of word (id / 32) set for each id that may be sampled: allowedWords(vocab)
   * words. Ids without their bit count as masked before everything else; log-probabilities are those of the raw logits.
   */
  SampleStatus sample(const OpsTable& ops, const float* logits, const uint32_t* allowed, SamplerScratch& scratch,
                      Sample& out) const;

 private:
  struct Seen {
    int64_t generated = 0;
    bool inPrompt = false;
  };

  /** Whether applyPenalties does anything now. */
  bool changesLogits() const;
  bool penalized() const;
  void applyPenalties(float* logits) const;

  int32_t vocab_;
  SamplerParams params_;
  std::unordered_map<int32_t, Seen> seen_;
  int64_t numGenerated_ = 0;
};

/** Words of a mask of allowed ids. */
constexpr int64_t allowedWords(int64_t vocab) { return (vocab + 31) / 32; }

/** Raw log-probability of `id` in logits [vocab] with its `top` best; fills out.id, logprob, topIds, topLogprobs. */
SampleStatus tokenLogprobs(const OpsTable& ops, const float* logits, int32_t vocab, int32_t id, int32_t top,
                           SamplerScratch& scratch, Sample& out);

/** Philox4x32-10 (Salmon et al. 2011): ten rounds on the counter under the key. */
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/** Uniform in [0, 1) with 53 bits: draw number `draw` at a position of a choice. */
double uniformAt(uint64_t seed, uint32_t choice, uint64_t position, uint32_t draw);

}  // namespace guildhall
