// logits = head(norm(hidden)) for chosen rows, with the checkpoint's padding ids masked.

#include <algorithm>
#include <cstring>
#include <limits>

#include "blocks.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

class CpuLmHead final : public LmHead {
 public:
  CpuLmHead(CpuContextPtr cpu, const LmHeadSpec& spec, const LmHeadWeights& w) : cpu_(std::move(cpu)), spec_(spec) {
    norm_ = readVector(w.norm, "weights.norm", spec.hidden);
    w.head.checkShape("weights.head", spec.vocab, spec.hidden);
    head_ = PackedLinear::pack({w.head}, cpu_->family(spec.format), cpu_->ledger);
  }

  void check(const StepBuffers& step, IntView rowIndex) const override {
    checkStep(step, spec_.hidden);
    if (step.options().vocab != spec_.vocab) {
      failRange("step", "made for a vocabulary of " + std::to_string(step.options().vocab) + ", expected " +
                            std::to_string(spec_.vocab));
    }
    checkRange("rowIndex.length", rowIndex.size, 0, step.options().maxLogitRows);
    for (int64_t i = 0; i < rowIndex.size; ++i) {
      checkRange("rowIndex[" + std::to_string(i) + "]", rowIndex[i], 0, step.numTokens() - 1);
    }
  }

  void forward(StepBuffers& step, IntView rowIndex) override {
    const int64_t hidden = spec_.hidden;
    float* const rows = cpu_->arena.take<float>(rowIndex.size * hidden);
    for (int64_t i = 0; i < rowIndex.size; ++i) {
      std::memcpy(rows + i * hidden, step.hidden() + rowIndex[i] * hidden, static_cast<size_t>(hidden) * sizeof(float));
    }
    runNorm(*cpu_, spec_.norm, norm_, rows, rows, rowIndex.size);
    runLinear(*cpu_, head_, rows, hidden, rowIndex.size, step.logits(), spec_.vocab);
    for (int64_t i = 0; i < rowIndex.size; ++i) {
      float* const logits = step.logits() + i * spec_.vocab;
      std::fill(logits + spec_.tokenizerSize, logits + spec_.vocab, -std::numeric_limits<float>::infinity());
    }
    step.setNumLogitRows(rowIndex.size);
  }

 private:
  CpuContextPtr cpu_;
  LmHeadSpec spec_;
  std::vector<float> norm_;
  PackedLinear head_;
};

}  // namespace

std::shared_ptr<LmHead> makeCpuLmHead(CpuContextPtr cpu, const LmHeadSpec& spec, const LmHeadWeights& weights) {
  checkRange("spec.hidden", spec.hidden, 1, kMaxCount);
  checkRange("spec.vocab", spec.vocab, 1, int64_t{1} << 30);
  checkRange("spec.tokenizerSize", spec.tokenizerSize, 1, spec.vocab);
  checkNorm("spec.norm", spec.norm);
  return std::make_shared<CpuLmHead>(std::move(cpu), spec, weights);
}

}  // namespace guildhall
