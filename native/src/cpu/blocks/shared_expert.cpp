#include "shared_expert.h"

#include "blocks.h"
#include "guildhall/check.h"

namespace guildhall {

CpuSharedExpert::CpuSharedExpert(CpuContextPtr cpu, const SharedExpertSpec& spec, const SharedExpertWeights& w)
    : cpu_(std::move(cpu)), spec_(spec) {
  w.gate.checkShape("weights.gate", spec.intermediate, spec.hidden);
  w.up.checkShape("weights.up", spec.intermediate, spec.hidden);
  w.down.checkShape("weights.down", spec.hidden, spec.intermediate);
  w.sharedGate.checkShape("weights.sharedGate", 1, spec.hidden);
  const KernelFamily family = cpu_->family(spec.format);
  ffn_.gateUp = PackedLinear::pack({w.gate, w.up}, family, cpu_->ledger);
  ffn_.down = PackedLinear::pack({w.down}, family, cpu_->ledger);
  sharedGate_ = PackedLinear::pack({w.sharedGate}, exactFamily(w.sharedGate), cpu_->ledger);
}

void CpuSharedExpert::check(const StepBuffers& step) const {
  checkStep(step, spec_.hidden);
  if (!step.gated()) failRange("step", "no gate has run on this batch");
}

FfnGroup CpuSharedExpert::group(StepBuffers& step, float* out) {
  FfnGroup group;
  group.ffn = &ffn_;
  group.input = prepareInput(cpu_->matmul, ffn_.gateUp.family(), step.normed(), spec_.hidden, step.numTokens(), spec_.hidden,
                             cpu_->arena, cpu_->pool);
  group.count = step.numTokens();
  group.out = out;
  return group;
}

MatmulJob CpuSharedExpert::gateJob(StepBuffers& step, float* gate) {
  const MatmulInput input = prepareInput(cpu_->matmul, sharedGate_.family(), step.normed(), spec_.hidden, step.numTokens(),
                                         spec_.hidden, cpu_->arena, cpu_->pool);
  return {&sharedGate_, input, step.numTokens(), gate, 1};
}

void CpuSharedExpert::forward(StepBuffers& step) {
  const int64_t tokens = step.numTokens();
  const int64_t hidden = spec_.hidden;
  float* const out = cpu_->arena.take<float>(tokens * hidden);
  float* const factor = cpu_->arena.take<float>(tokens);
  runFfn(*cpu_, {group(step, out)}, {gateJob(step, factor)});
  cpu_->ops.sigmoid(factor, factor, tokens);
  cpu_->pool.run(
      tokens,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
          for (int64_t i = t * hidden; i < (t + 1) * hidden; ++i) step.shared()[i] = factor[t] * out[i];
        }
      },
      16);
  step.setSharedPresent(true);
}

std::shared_ptr<SharedExpert> makeCpuSharedExpert(CpuContextPtr cpu, const SharedExpertSpec& spec,
                                                  const SharedExpertWeights& weights) {
  checkRange("spec.hidden", spec.hidden, 1, kMaxCount);
  checkRange("spec.intermediate", spec.intermediate, 1, kMaxCount);
  return std::make_shared<CpuSharedExpert>(std::move(cpu), spec, weights);
}

}  // namespace guildhall
