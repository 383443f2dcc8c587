// hidden += Wout (gated norm of the delta rule over the convolved projections of norm(hidden)).

#include "blocks.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

void checkSpec(const GatedDeltaNetSpec& spec) {
  checkRange("spec.hidden", spec.hidden, 1, kMaxCount);
  checkRange("spec.numKeyHeads", spec.numKeyHeads, 1, kMaxCount);
  checkRange("spec.numValueHeads", spec.numValueHeads, 1, kMaxCount);
  checkRange("spec.keyHeadDim", spec.keyHeadDim, 1, 4096);
  checkRange("spec.valueHeadDim", spec.valueHeadDim, 1, 4096);
  checkRange("spec.convKernel", spec.convKernel, 2, 8);
  checkRange("spec.stateLayer", spec.stateLayer, 0, kMaxCount);
  checkNorm("spec.inputNorm", spec.inputNorm);
  checkNorm("spec.outputEps", {spec.outputEps, false});
  if (spec.numValueHeads % spec.numKeyHeads != 0) {
    failRange("spec.numValueHeads", std::to_string(spec.numValueHeads) + " is not a multiple of numKeyHeads");
  }
}

class CpuGatedDeltaNet final : public GatedDeltaNet {
 public:
  CpuGatedDeltaNet(CpuContextPtr cpu, const GatedDeltaNetSpec& spec, const GatedDeltaNetWeights& w)
      : cpu_(std::move(cpu)), spec_(spec) {
    const int64_t heads = spec.numValueHeads;
    inputNorm_ = readVector(w.inputNorm, "weights.inputNorm", spec.hidden);
    w.inProjQkv.checkShape("weights.inProjQkv", spec.convDim(), spec.hidden);
    w.inProjZ.checkShape("weights.inProjZ", spec.valueDim(), spec.hidden);
    w.inProjB.checkShape("weights.inProjB", heads, spec.hidden);
    w.inProjA.checkShape("weights.inProjA", heads, spec.hidden);
    w.conv.checkShape("weights.conv", spec.convDim(), spec.convKernel);
    dtBias_ = readVector(w.dtBias, "weights.dtBias", heads);
    aLog_ = readVector(w.aLog, "weights.aLog", heads);
    outputNorm_ = readVector(w.norm, "weights.norm", spec.valueHeadDim);
    w.outProj.checkShape("weights.outProj", spec.hidden, spec.valueDim());
    const KernelFamily family = cpu_->family(spec.format);
    inProj_ = PackedLinear::pack({w.inProjQkv, w.inProjZ, w.inProjB, w.inProjA}, family, cpu_->ledger);
    outProj_ = PackedLinear::pack({w.outProj}, family, cpu_->ledger);
    zeros_.resize(static_cast<size_t>(spec.convDim()));
    conv_ = transposed(readAll(w.conv), spec.convDim(), spec.convKernel);
  }

  void check(const StepBuffers& step, const StatePool& states) const override {
    checkStep(step, spec_.hidden);
    const StatePoolOptions& o = states.options();
    if (o.numValueHeads != spec_.numValueHeads || o.keyHeadDim != spec_.keyHeadDim ||
        o.valueHeadDim != spec_.valueHeadDim || o.convDim != spec_.convDim() || o.convKernel != spec_.convKernel) {
      failRange("states", "shaped for another model");
    }
    if (spec_.stateLayer >= o.numLayers) {
      failRange("states", std::to_string(o.numLayers) + " layers, needed layer " + std::to_string(spec_.stateLayer));
    }
    checkRange("step.stateSlot", step.batch().smallestSlot(), 0, o.numSlots - 1);
    checkRange("step.stateSlot", step.batch().largestSlot(), 0, o.numSlots - 1);
    checkRange("step.initState", step.batch().largestInit(), kInitZeros, o.numSlots - 1);
    checkRange("step.snapshotSlot", step.batch().largestSnapshot(), -1, o.numSlots - 1);
  }

  void forward(StepBuffers& step, StatePool& states) override {
    Arena& arena = cpu_->arena;
    const int64_t tokens = step.numTokens();
    float* const normed = arena.take<float>(tokens * spec_.hidden);
    runNorm(*cpu_, spec_.inputNorm, inputNorm_, step.hidden(), normed, tokens);
    float* const projected = arena.take<float>(tokens * inProj_.n());
    runLinear(*cpu_, inProj_, normed, spec_.hidden, tokens, projected, inProj_.n());
    float* const out = runRule(step, states, projected);
    runLinear(*cpu_, outProj_, out, spec_.valueDim(), tokens, normed, spec_.hidden);
    addToHidden(*cpu_, step, normed);
  }

 private:
  static std::vector<float> transposed(const std::vector<float>& weight, int64_t channels, int64_t kernel) {
    std::vector<float> out(weight.size());
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t j = 0; j < kernel; ++j) {
        out[static_cast<size_t>(j * channels + c)] = weight[static_cast<size_t>(c * kernel + j)];
      }
    }
    return out;
  }

  DeltaNetShape shape() const { return {spec_.numKeyHeads, spec_.numValueHeads, spec_.keyHeadDim, spec_.valueHeadDim}; }

  /** Input of the output projection, [T][valueDim]. */
  float* runRule(StepBuffers& step, StatePool& states, const float* projected) {
    Arena& arena = cpu_->arena;
    DeltaNetArgs args;
    args.batch = step.batch().view();
    args.shape = shape();
    args.x = projected;
    args.xRowStride = inProj_.n();
    args.convWeight = conv_.data();
    args.convKernel = spec_.convKernel;
    args.aLog = aLog_.data();
    args.dtBias = dtBias_.data();
    args.normWeight = outputNorm_.data();
    args.normEps = spec_.outputEps;
    args.state = states.deltaState(spec_.stateLayer);
    args.convState = states.convState(spec_.stateLayer);
    args.stateStride = states.slotFloats();
    args.zeros = zeros_.data();
    args.out = arena.take<float>(step.numTokens() * spec_.valueDim());
    args.outRowStride = spec_.valueDim();
    args.scratch = arena.take<float>(deltaNetScratchFloats(args.shape, cpu_->pool.threads()));
    cpu_->ops.deltaNet(cpu_->pool, args);
    return args.out;
  }

  CpuContextPtr cpu_;
  GatedDeltaNetSpec spec_;
  std::vector<float> inputNorm_, conv_, dtBias_, aLog_, outputNorm_;
  /** A row of the convolution before a sequence's first. */
  std::vector<float> zeros_;
  /** Rows [q | k | v | z | b | a]. */
  PackedLinear inProj_;
  PackedLinear outProj_;
};

}  // namespace

std::shared_ptr<GatedDeltaNet> makeCpuGatedDeltaNet(CpuContextPtr cpu, const GatedDeltaNetSpec& spec,
                                                    const GatedDeltaNetWeights& weights) {
  checkSpec(spec);
  return std::make_shared<CpuGatedDeltaNet>(std::move(cpu), spec, weights);
}

}  // namespace guildhall
