// hidden += Wo (sigmoid(gate) * attention(norm(hidden))) over paged K and V.

#include <cmath>

#include "blocks.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

void checkSpec(const GatedAttentionSpec& spec) {
  checkRange("spec.hidden", spec.hidden, 1, kMaxCount);
  checkRange("spec.numHeads", spec.numHeads, 1, kMaxCount);
  checkRange("spec.numKvHeads", spec.numKvHeads, 1, kMaxCount);
  checkRange("spec.headDim", spec.headDim, 1, 4096);
  checkRange("spec.rotaryDim", spec.rotaryDim, 0, spec.headDim);
  checkRange("spec.kvLayer", spec.kvLayer, 0, kMaxCount);
  checkNorm("spec.inputNorm", spec.inputNorm);
  checkNorm("spec.qkNorm", spec.qkNorm);
  if (spec.numHeads % spec.numKvHeads != 0) {
    failRange("spec.numHeads", std::to_string(spec.numHeads) + " is not a multiple of numKvHeads");
  }
  if (spec.rotaryDim % 2 != 0) failRange("spec.rotaryDim", std::to_string(spec.rotaryDim) + " is odd");
  const auto half = static_cast<size_t>(spec.rotaryDim / 2);
  if (spec.invFreq.size() != half) {
    failRange("spec.invFreq", std::to_string(spec.invFreq.size()) + " entries, expected " + std::to_string(half));
  }
  if (spec.freqAxis.size() != half) {
    failRange("spec.freqAxis", std::to_string(spec.freqAxis.size()) + " entries, expected " + std::to_string(half));
  }
  for (size_t i = 0; i < half; ++i) {
    checkRange("spec.freqAxis[" + std::to_string(i) + "]", spec.freqAxis[i], 0, 2);
    if (!std::isfinite(spec.invFreq[i])) failRange("spec.invFreq[" + std::to_string(i) + "]", "is not finite");
  }
  if (!(spec.ropeScale > 0.0f && std::isfinite(spec.ropeScale)))
    failRange("spec.ropeScale", "is not a positive number");
}

class CpuGatedAttention final : public GatedAttention {
 public:
  CpuGatedAttention(CpuContextPtr cpu, const GatedAttentionSpec& spec, const GatedAttentionWeights& w)
      : cpu_(std::move(cpu)), spec_(spec) {
    inputNorm_ = readVector(w.inputNorm, "weights.inputNorm", spec.hidden);
    w.qProj.checkShape("weights.qProj", spec.numHeads * qHeadDim(), spec.hidden);
    w.kProj.checkShape("weights.kProj", kvDim(), spec.hidden);
    w.vProj.checkShape("weights.vProj", kvDim(), spec.hidden);
    w.oProj.checkShape("weights.oProj", spec.hidden, spec.numHeads * spec.headDim);
    qNorm_ = readVector(w.qNorm, "weights.qNorm", spec.headDim);
    kNorm_ = readVector(w.kNorm, "weights.kNorm", spec.headDim);
    const KernelFamily family = cpu_->family(spec.format);
    inProj_ = PackedLinear::pack({w.qProj, w.kProj, w.vProj}, family, cpu_->ledger);
    outProj_ = PackedLinear::pack({w.oProj}, family, cpu_->ledger);
  }

  void check(const StepBuffers& step, const KvPool& kv) const override {
    checkStep(step, spec_.hidden);
    const KvPoolOptions& o = kv.options();
    if (o.numKvHeads != spec_.numKvHeads || o.headDim != spec_.headDim) failRange("kv", "shaped for another model");
    if (spec_.kvLayer >= o.numLayers) {
      failRange("kv", std::to_string(o.numLayers) + " layers, needed layer " + std::to_string(spec_.kvLayer));
    }
    if (!step.batch().hasPages()) failRange("step.pageTable", "the batch has no pages");
    checkRange("step.pageTable", step.batch().largestPage(), 0, o.numPages - 1);
  }

  void forward(StepBuffers& step, KvPool& kv) override {
    Arena& arena = cpu_->arena;
    const int64_t tokens = step.numTokens();
    float* const normed = arena.take<float>(tokens * spec_.hidden);
    runNorm(*cpu_, spec_.inputNorm, inputNorm_, step.hidden(), normed, tokens);
    float* const q = arena.take<float>(tokens * inProj_.n());
    runLinear(*cpu_, inProj_, normed, spec_.hidden, tokens, q, inProj_.n());
    const KvView pages = kv.view(spec_.kvLayer);
    prepareHeads(step, pages, q);
    float* const out = attend(step, pages, q);
    runLinear(*cpu_, outProj_, out, outProj_.k(), tokens, normed, spec_.hidden);
    addToHidden(*cpu_, step, normed);
  }

 private:
  /** Floats of a head in the projection: query, and its gate. */
  int64_t qHeadDim() const { return spec_.headDim * (spec_.outputGate ? 2 : 1); }
  int64_t kvDim() const { return spec_.numKvHeads * spec_.headDim; }

  /** Norms and rotations of the projected heads where they lie, and K and V into their pages. */
  void prepareHeads(StepBuffers& step, const KvView& pages, float* q) {
    const StepBuffers::RopeTable& rope = rotations(step);
    HeadPrepArgs args;
    args.k = q + spec_.numHeads * qHeadDim();
    args.write.batch = step.batch().view();
    args.write.kv = pages;
    args.write.k = args.k;
    args.write.v = args.k + kvDim();
    args.write.kRowStride = args.write.vRowStride = args.qRowStride = inProj_.n();
    args.q = q;
    args.qHeadStride = qHeadDim();
    args.numHeads = spec_.numHeads;
    args.qNorm = qNorm_.data();
    args.kNorm = kNorm_.data();
    args.eps = spec_.qkNorm.eps;
    args.zeroCentered = spec_.qkNorm.zeroCentered;
    args.half = spec_.rotaryDim / 2;
    args.cos = rope.values.as<float>();
    args.sin = args.cos + step.numTokens() * args.half;
    cpu_->ops.prepareHeads(cpu_->pool, args);
  }

  /** The step's table, computed unless a layer with the same frequencies has done so. */
  const StepBuffers::RopeTable& rotations(StepBuffers& step) const {
    StepBuffers::RopeTable& table = step.ropeTable();
    const bool same =
        table.invFreq == spec_.invFreq && table.freqAxis == spec_.freqAxis && table.scale == spec_.ropeScale;
    const int64_t half = spec_.rotaryDim / 2;
    if ((table.current && same) || half == 0) return table;
    if (!same) {
      table.invFreq = spec_.invFreq;
      table.freqAxis = spec_.freqAxis;
      table.scale = spec_.ropeScale;
      table.values = Buffer(step.options().maxTokens * half * 2 * static_cast<int64_t>(sizeof(float)),
                            MemoryKind::kBuffers, step.ledger());
    }
    RopeTableArgs args;
    args.positions = step.batch().positions();
    args.axisStride = args.rows = step.numTokens();
    args.invFreq = spec_.invFreq.data();
    args.freqAxis = spec_.freqAxis.data();
    args.half = half;
    args.scale = spec_.ropeScale;
    args.cos = table.values.as<float>();
    args.sin = args.cos + args.rows * half;
    ropeTable(cpu_->pool, args);
    table.current = true;
    return table;
  }

  /** Attention with the output gate applied: [T][numHeads * headDim]. */
  float* attend(StepBuffers& step, const KvView& kv, const float* q) {
    // Not a member: another forward may interrupt this one.
    AttentionPlan plan;
    plan.set(step.batch().view(), {spec_.numHeads, spec_.numKvHeads, spec_.headDim}, cpu_->pool.threads());
    AttentionArgs args;
    args.batch = step.batch().view();
    args.kv = kv;
    args.q = q;
    args.qRowStride = inProj_.n();
    args.qHeadStride = qHeadDim();
    args.gate = spec_.outputGate ? q + spec_.headDim : nullptr;
    args.out = cpu_->arena.take<float>(step.numTokens() * outProj_.k());
    args.outRowStride = outProj_.k();
    args.outHeadStride = spec_.headDim;
    args.numHeads = spec_.numHeads;
    args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec_.headDim)));
    args.plan = &plan;
    args.scratch = cpu_->arena.take<float>(plan.scratchFloats());
    cpu_->ops.attention(cpu_->pool, args);
    return args.out;
  }

  CpuContextPtr cpu_;
  GatedAttentionSpec spec_;
  std::vector<float> inputNorm_, qNorm_, kNorm_;
  /** Rows [q (and gate) per head | k | v]. */
  PackedLinear inProj_;
  PackedLinear outProj_;
};

}  // namespace

std::shared_ptr<GatedAttention> makeCpuGatedAttention(CpuContextPtr cpu, const GatedAttentionSpec& spec,
                                                      const GatedAttentionWeights& weights) {
  checkSpec(spec);
  return std::make_shared<CpuGatedAttention>(std::move(cpu), spec, weights);
}

}  // namespace guildhall
