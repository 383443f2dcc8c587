// shared = sigmoid(x Wsg) * down(silu(gate x) * up x) on the f32 rows of the last gate.

#include "blocks.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

class CpuSharedExpert final : public SharedExpert {
 public:
  CpuSharedExpert(CpuContextPtr cpu, const SharedExpertSpec& spec, const SharedExpertWeights& w)
      : cpu_(std::move(cpu)), spec_(spec) {
    w.gate.checkShape("weights.gate", spec.intermediate, spec.hidden);
    w.up.checkShape("weights.up", spec.intermediate, spec.hidden);
    w.down.checkShape("weights.down", spec.hidden, spec.intermediate);
    w.sharedGate.checkShape("weights.sharedGate", 1, spec.hidden);
    const KernelFamily family = cpu_->family(spec.format);
    gateUp_ = PackedLinear::pack({w.gate, w.up}, family, cpu_->ledger);
    down_ = PackedLinear::pack({w.down}, family, cpu_->ledger);
    sharedGate_ = PackedLinear::pack({w.sharedGate}, exactFamily(w.sharedGate), cpu_->ledger);
  }

  void check(const StepBuffers& step) const override {
    checkStep(step, spec_.hidden);
    if (!step.gated()) failRange("step", "no gate has run on this batch");
  }

  void forward(StepBuffers& step) override {
    Arena& arena = cpu_->arena;
    const int64_t tokens = step.numTokens();
    const float* const x = step.normed();
    float* const gateUp = arena.take<float>(tokens * gateUp_.n());
    float* const gate = arena.take<float>(tokens);
    runLinear(*cpu_, gateUp_, x, spec_.hidden, tokens, gateUp, gateUp_.n());
    runLinear(*cpu_, sharedGate_, x, spec_.hidden, tokens, gate, 1);

    SiluMulArgs act;
    act.gate = gateUp;
    act.up = gateUp + spec_.intermediate;
    act.gateStride = act.upStride = gateUp_.n();
    act.out = arena.take<float>(tokens * spec_.intermediate);
    act.outStride = spec_.intermediate;
    act.rows = tokens;
    act.cols = spec_.intermediate;
    cpu_->ops.siluMul(cpu_->pool, act);

    float* const out = arena.take<float>(tokens * spec_.hidden);
    runLinear(*cpu_, down_, act.out, spec_.intermediate, tokens, out, spec_.hidden);
    scaleInto(step, out, gate);
    step.setSharedPresent(true);
  }

 private:
  void scaleInto(StepBuffers& step, const float* out, const float* gate) {
    const int64_t hidden = spec_.hidden;
    float* const factor = cpu_->arena.take<float>(step.numTokens());
    cpu_->ops.sigmoid(gate, factor, step.numTokens());
    cpu_->pool.run(
        step.numTokens(),
        [&](int64_t begin, int64_t end, int) {
          for (int64_t t = begin; t < end; ++t) {
            for (int64_t i = t * hidden; i < (t + 1) * hidden; ++i) step.shared()[i] = factor[t] * out[i];
          }
        },
        16);
  }

  CpuContextPtr cpu_;
  SharedExpertSpec spec_;
  /** Rows [gate | up]. */
  PackedLinear gateUp_;
  PackedLinear down_;
  PackedLinear sharedGate_;
};

}  // namespace

std::shared_ptr<SharedExpert> makeCpuSharedExpert(CpuContextPtr cpu, const SharedExpertSpec& spec,
                                                  const SharedExpertWeights& weights) {
  checkRange("spec.hidden", spec.hidden, 1, kMaxCount);
  checkRange("spec.intermediate", spec.intermediate, 1, kMaxCount);
  return std::make_shared<CpuSharedExpert>(std::move(cpu), spec, weights);
}

}  // namespace guildhall
