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
    float* const k = q + spec_.numHeads * qHeadDim();
    headNorm(q, spec_.numHeads, qHeadDim(), qNorm_, tokens);
    headNorm(k, spec_.numKvHeads, spec_.headDim, kNorm_, tokens);
    rotate(step, q, k);

    KvWriteArgs write;
    write.batch = step.batch().view();
    write.kv = kv.view(spec_.kvLayer);
    write.k = k;
    write.v = k + kvDim();
    write.kRowStride = write.vRowStride = inProj_.n();
    cpu_->ops.kvWrite(cpu_->pool, write);

    float* const out = attend(step, write.kv, q);
    runLinear(*cpu_, outProj_, out, outProj_.k(), tokens, normed, spec_.hidden);
    addToHidden(*cpu_, step, normed);
  }

 private:
  /** Floats of a head in the projection: query, and its gate. */
  int64_t qHeadDim() const { return spec_.headDim * (spec_.outputGate ? 2 : 1); }
  int64_t kvDim() const { return spec_.numKvHeads * spec_.headDim; }

  /** Norm in place over heads of the projection. */
  void headNorm(float* x, int64_t heads, int64_t headStride, const std::vector<float>& weight, int64_t tokens) {
    RmsNormArgs args;
    args.x = args.out = x;
    args.xRowStride = args.outRowStride = inProj_.n();
    args.xHeadStride = args.outHeadStride = headStride;
    args.weight = weight.data();
    args.eps = spec_.qkNorm.eps;
    args.zeroCentered = spec_.qkNorm.zeroCentered;
    args.rows = tokens;
    args.heads = heads;
    args.dim = spec_.headDim;
    cpu_->ops.rmsNorm(cpu_->pool, args);
  }

  void rotate(StepBuffers& step, float* q, float* k) {
    const int64_t half = spec_.rotaryDim / 2;
    if (half == 0) return;
    RopeTableArgs table;
    table.positions = step.batch().positions();
    table.axisStride = table.rows = step.numTokens();
    table.invFreq = spec_.invFreq.data();
    table.freqAxis = spec_.freqAxis.data();
    table.half = half;
    table.scale = spec_.ropeScale;
    table.cos = cpu_->arena.take<float>(table.rows * half);
    table.sin = cpu_->arena.take<float>(table.rows * half);
    ropeTable(cpu_->pool, table);

    RopeArgs rope;
    rope.x = q;
    rope.rowStride = inProj_.n();
    rope.headStride = qHeadDim();
    rope.rows = table.rows;
    rope.heads = spec_.numHeads;
    rope.half = half;
    rope.cos = table.cos;
    rope.sin = table.sin;
    cpu_->ops.rope(cpu_->pool, rope);
    rope.x = k;
    rope.headStride = spec_.headDim;
    rope.heads = spec_.numKvHeads;
    cpu_->ops.rope(cpu_->pool, rope);
  }

  /** Attention with the output gate applied: [T][numHeads * headDim]. */
  float* attend(StepBuffers& step, const KvView& kv, const float* q) {
    AttentionArgs args;
    args.batch = step.batch().view();
    args.kv = kv;
    args.q = q;
    args.qRowStride = inProj_.n();
    args.qHeadStride = qHeadDim();
    args.out = cpu_->arena.take<float>(step.numTokens() * outProj_.k());
    args.outRowStride = outProj_.k();
    args.outHeadStride = spec_.headDim;
    args.numHeads = spec_.numHeads;
    args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec_.headDim)));
    args.scratch = cpu_->arena.take<float>(
        attentionScratchFloats(spec_.numHeads, spec_.numKvHeads, spec_.headDim, cpu_->pool.threads()));
    cpu_->ops.attention(cpu_->pool, args);
    if (spec_.outputGate) {
      GateMulArgs gate;
      gate.x = args.out;
      gate.xRowStride = args.outRowStride;
      gate.xHeadStride = spec_.headDim;
      gate.gate = q + spec_.headDim;
      gate.gateRowStride = inProj_.n();
      gate.gateHeadStride = qHeadDim();
      gate.rows = step.numTokens();
      gate.heads = spec_.numHeads;
      gate.dim = spec_.headDim;
      cpu_->ops.gateMul(cpu_->pool, gate);
    }
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
