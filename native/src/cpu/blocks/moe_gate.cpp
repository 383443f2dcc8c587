// Post-attention norm, rounding of the rows, softmax over all experts, top-k.

#include <atomic>
#include <limits>
#include <stdexcept>

#include "blocks.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

class CpuMoeGate final : public MoeGate {
 public:
  CpuMoeGate(CpuContextPtr cpu, const MoeGateSpec& spec, const MoeGateWeights& w) : cpu_(std::move(cpu)), spec_(spec) {
    norm_ = readVector(w.norm, "weights.norm", spec.hidden);
    w.gate.checkShape("weights.gate", spec.numExperts, spec.hidden);
    // f32 activations in every class: routing must not hang on the rounding of a logit.
    gate_ = PackedLinear::pack({w.gate}, exactFamily(w.gate), cpu_->ledger);
  }

  void check(const StepBuffers& step) const override {
    checkStep(step, spec_.hidden);
    const StepBuffersOptions& o = step.options();
    if (o.numExperts != spec_.numExperts || o.topK != spec_.topK) {
      failRange("step", "made for " + std::to_string(o.topK) + " of " + std::to_string(o.numExperts) +
                            " experts, expected " + std::to_string(spec_.topK) + " of " +
                            std::to_string(spec_.numExperts));
    }
  }

  void forward(StepBuffers& step) override {
    const int64_t tokens = step.numTokens();
    step.setSharedPresent(false);
    step.setGated();
    runNorm(*cpu_, spec_.norm, norm_, step.hidden(), step.normed(), tokens);
    roundRows(step);
    float* const logits = cpu_->arena.take<float>(tokens * spec_.numExperts);
    runLinear(*cpu_, gate_, step.normed(), spec_.hidden, tokens, logits, spec_.numExperts);
    choose(step, logits);
  }

 private:
  void roundRows(StepBuffers& step) {
    const StepBuffersOptions& o = step.options();
    cpu_->pool.run(
        step.numTokens(),
        [&](int64_t begin, int64_t end, int) {
          for (int64_t t = begin; t < end; ++t) {
            cpu_->rows.round(step.normed() + t * o.hidden, step.rows() + t * step.rowBytes(), o.rowFormat, o.hidden);
          }
        },
        16);
  }

  void choose(StepBuffers& step, const float* logits) {
    std::atomic<int64_t> badRow{std::numeric_limits<int64_t>::max()};
    SoftmaxTopkArgs args;
    args.logits = logits;
    args.logitStride = spec_.numExperts;
    args.rows = step.numTokens();
    args.numExperts = spec_.numExperts;
    args.k = spec_.topK;
    args.renormalize = spec_.normTopk;
    args.ids = step.topkIds();
    args.weights = step.topkWeights();
    args.scratch = cpu_->arena.take<float>(softmaxTopkScratchFloats(spec_.numExperts, cpu_->pool.threads()));
    args.badRow = &badRow;
    cpu_->ops.softmaxTopk(cpu_->pool, args);
    if (badRow.load() < args.rows) {
      throw std::runtime_error("the gate logits of row " + std::to_string(badRow.load()) + " are not finite");
    }
  }

  CpuContextPtr cpu_;
  MoeGateSpec spec_;
  std::vector<float> norm_;
  PackedLinear gate_;
};

}  // namespace

std::shared_ptr<MoeGate> makeCpuMoeGate(CpuContextPtr cpu, const MoeGateSpec& spec, const MoeGateWeights& weights) {
  checkRange("spec.hidden", spec.hidden, 1, kMaxCount);
  checkRange("spec.numExperts", spec.numExperts, 1, 65536);
  checkRange("spec.topK", spec.topK, 1, spec.numExperts);
  checkNorm("spec.norm", spec.norm);
  return std::make_shared<CpuMoeGate>(std::move(cpu), spec, weights);
}

}  // namespace guildhall
