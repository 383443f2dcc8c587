#include "blocks/blocks.h"
#include "context.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

std::vector<std::string> cpuFeatures() {
  std::vector<std::string> features;
#if defined(GUILDHALL_X86)
  const auto add = [&](bool has, const char* name) {
    if (has) features.emplace_back(name);
  };
  add(__builtin_cpu_supports("avx2"), "avx2");
  add(__builtin_cpu_supports("fma"), "fma");
  add(__builtin_cpu_supports("avx512f"), "avx512f");
  add(__builtin_cpu_supports("avx512bw"), "avx512bw");
  add(__builtin_cpu_supports("avx512dq"), "avx512dq");
  add(__builtin_cpu_supports("avx512vl"), "avx512vl");
  add(__builtin_cpu_supports("avx512vnni"), "avx512vnni");
  add(__builtin_cpu_supports("avx512bf16"), "avx512bf16");
  add(__builtin_cpu_supports("avx512vbmi"), "avx512vbmi");
#elif defined(__aarch64__)
  features.emplace_back("neon");
#endif
  return features;
}

BackendInfo chooseInfo(const RuntimeOptions& options) {
  BackendInfo info;
  info.isa = options.isa.value_or(bestIsa());
  if (!isaSupported(info.isa)) {
    failRange("options.isa", std::string(isaName(info.isa)) + " is not supported by this processor");
  }
  const bool dotPossible = info.isa == Isa::Avx512 && bf16DotSupported();
  if (options.bf16Kernels == Bf16Kernels::kDot && !dotPossible) {
    failRange("options.bf16Kernels", "bf16-dot needs avx512 with avx512bf16");
  }
  info.bf16Dot = options.bf16Kernels == Bf16Kernels::kFma ? false : dotPossible;
  info.threads = options.threads;
  info.cpuFeatures = cpuFeatures();
  return info;
}

/** Whether the dot kernel of attention runs: AVX-512 VBMI beside BF16. */
bool dotPagesPossible() {
#if defined(GUILDHALL_X86)
  return __builtin_cpu_supports("avx512vbmi") != 0;
#else
  return false;
#endif
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const BackendInfo& info, std::shared_ptr<MemoryLedger> ledger, std::shared_ptr<CoreLeases> leases)
      : cpu_(std::make_shared<CpuContext>(info, std::move(ledger), std::move(leases))),
        samplerScratch_(static_cast<size_t>(info.threads)) {}

  const BackendInfo& info() const override { return cpu_->info; }
  KernelFamily kernelFamily(WeightFormat format) const override { return cpu_->family(format); }
  KvKernel kvKernel(KvFormat format) const override {
    const bool dot = cpu_->info.bf16Dot && dotPagesPossible() && format != KvFormat::kF32;
    return dot ? KvKernel::kDot : KvKernel::kFma;
  }

  std::shared_ptr<KvPool> createKvPool(const KvPoolOptions& o) override {
    KvPoolOptions options = o;
    options.kernel = kvKernel(o.format);
    return std::make_shared<KvPool>(options, cpu_->ledger);
  }
  std::shared_ptr<StatePool> createStatePool(const StatePoolOptions& o) override {
    return std::make_shared<StatePool>(o, cpu_->ledger);
  }
  std::shared_ptr<StepBuffers> createStepBuffers(const StepBuffersOptions& o) override {
    return std::make_shared<StepBuffers>(o, cpu_->ledger);
  }
  std::shared_ptr<Embedding> createEmbedding(const TensorSource& table, WeightFormat format) override {
    return makeCpuEmbedding(cpu_, table, format);
  }
  std::shared_ptr<GatedDeltaNet> createGatedDeltaNet(const GatedDeltaNetSpec& spec,
                                                     const GatedDeltaNetWeights& w) override {
    return makeCpuGatedDeltaNet(cpu_, spec, w);
  }
  std::shared_ptr<GatedAttention> createGatedAttention(const GatedAttentionSpec& spec,
                                                       const GatedAttentionWeights& w) override {
    return makeCpuGatedAttention(cpu_, spec, w);
  }
  std::shared_ptr<MoeGate> createMoeGate(const MoeGateSpec& spec, const MoeGateWeights& w) override {
    return makeCpuMoeGate(cpu_, spec, w);
  }
  std::shared_ptr<SharedExpert> createSharedExpert(const SharedExpertSpec& spec,
                                                   const SharedExpertWeights& w) override {
    return makeCpuSharedExpert(cpu_, spec, w);
  }
  std::shared_ptr<LmHead> createLmHead(const LmHeadSpec& spec, const LmHeadWeights& w) override {
    return makeCpuLmHead(cpu_, spec, w);
  }
  std::shared_ptr<ExpertShard> createExpertShard(const ExpertShardOptions& o) override {
    return makeCpuExpertShard(cpu_, o);
  }

  QuantisedTensor quantise(const TensorSource& source, WeightFormat format) override {
    return guildhall::quantise(source, format, cpu_->pool);
  }

  void combine(StepBuffers& step) override { combineOnCpu(*cpu_, step); }

  std::vector<Sample> sample(const StepBuffers& step, const std::vector<SampleRequest>& requests) override {
    std::vector<Sample> samples(requests.size());
    cpu_->pool.run(static_cast<int64_t>(requests.size()), [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        const SampleRequest& request = requests[static_cast<size_t>(i)];
        const float* const logits = step.logits() + request.row * step.options().vocab;
        const uint32_t* const allowed = request.allowed.empty() ? nullptr : request.allowed.data();
        SamplerScratch& scratch = samplerScratch_[static_cast<size_t>(thread)];
        check(request.sampler->sample(cpu_->ops, logits, allowed, scratch, samples[static_cast<size_t>(i)]), request.row);
      }
    });
    return samples;
  }

  std::vector<Sample> logprobs(const StepBuffers& step, IntView rows, IntView ids, int32_t top) override {
    std::vector<Sample> samples(static_cast<size_t>(rows.size));
    SamplerScratch scratch;
    const auto vocab = static_cast<int32_t>(step.options().vocab);
    for (int64_t i = 0; i < rows.size; ++i) {
      const float* const logits = step.logits() + int64_t{rows[i]} * vocab;
      check(tokenLogprobs(cpu_->ops, logits, vocab, ids[i], top, scratch, samples[static_cast<size_t>(i)]), rows[i]);
    }
    return samples;
  }

  void beginInline() override {
    enter();
    cpu_->pool.setSerial(true);
  }
  void endInline() override {
    cpu_->pool.setSerial(false);
    leave();
  }

  void beginCall(Interrupt* interrupt) override {
    enter();
    cpu_->pool.setInterrupt(interrupt);
    cpu_->pool.setInCall(true);
  }
  void endCall() override {
    cpu_->pool.setInCall(false);
    cpu_->pool.setInterrupt(nullptr);
    leave();
  }
  void nextBlock() override { cpu_->arena.reset(); }

 private:
  /** A call that interrupts another one leaves that one's scratch alone. */
  void enter() {
    if (depth_++ > 0) std::swap(cpu_->arena, cpu_->innerArena);
    cpu_->arena.reset();
  }
  void leave() {
    if (--depth_ > 0) std::swap(cpu_->arena, cpu_->innerArena);
  }

  static void check(SampleStatus status, int64_t row) {
    if (status == SampleStatus::Ok) return;
    throw std::runtime_error("logit row " + std::to_string(row) +
                             (status == SampleStatus::BadLogits ? " is not finite" : " masks every id"));
  }

  CpuContextPtr cpu_;
  /** One per pool thread. */
  std::vector<SamplerScratch> samplerScratch_;
  /** Calls that are under way: two while one interrupts another. */
  int depth_ = 0;
};

}  // namespace

BackendEntry cpuBackend() {
  return {"cpu", [] { return true; },
          [](const RuntimeOptions& options, std::shared_ptr<MemoryLedger> ledger) -> std::unique_ptr<Backend> {
            return std::make_unique<CpuBackend>(chooseInfo(options), std::move(ledger), options.coreLeases);
          }};
}

}  // namespace guildhall
