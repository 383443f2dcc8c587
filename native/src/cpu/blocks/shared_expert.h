#pragma once

#include "expert_ffn.h"
#include "guildhall/blocks.h"

namespace guildhall {

/** shared = sigmoid(x Wsg) * down(silu(gate x) * up x) on the f32 rows of the last gate. */
class CpuSharedExpert final : public SharedExpert {
 public:
  CpuSharedExpert(CpuContextPtr cpu, const SharedExpertSpec& spec, const SharedExpertWeights& weights);

  void check(const StepBuffers& step) const override;
  void forward(StepBuffers& step) override;

  const SharedExpertSpec& spec() const { return spec_; }
  /** The step's rows through the network into `out` [T][hidden], without the factor. */
  FfnGroup group(StepBuffers& step, float* out);
  /** The product x Wsg into `gate` [T]. */
  MatmulJob gateJob(StepBuffers& step, float* gate);

 private:
  CpuContextPtr cpu_;
  SharedExpertSpec spec_;
  PackedFfn ffn_;
  PackedLinear sharedGate_;
};

}  // namespace guildhall
