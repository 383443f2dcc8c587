#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "guildhall/blocks.h"
#include "guildhall/core_leases.h"
#include "guildhall/expert_shard.h"
#include "guildhall/memory.h"
#include "guildhall/ops/isa.h"
#include "guildhall/ops/sampler.h"
#include "guildhall/packed_linear.h"
#include "guildhall/parallel.h"
#include "guildhall/quantise.h"

namespace guildhall {

enum class Bf16Kernels { kAuto, kFma, kDot };

struct RuntimeOptions {
  int threads = 1;
  /** Empty: the widest supported one. */
  std::optional<Isa> isa;
  Bf16Kernels bf16Kernels = Bf16Kernels::kAuto;
  /** Cores are leased for each call; null: they are not. */
  std::shared_ptr<CoreLeases> coreLeases = nullptr;
};

struct BackendInfo {
  Isa isa = Isa::Scalar;
  bool bf16Dot = false;
  int threads = 1;
  std::vector<std::string> cpuFeatures;
};

/** One logit row to sample: a step's row with a sequence's sampler. */
struct SampleRequest {
  int64_t row = 0;
  const Sampler* sampler = nullptr;
  /** Mask of allowed ids, as Sampler::sample takes it; empty for no mask. */
  std::vector<uint32_t> allowed;
};

/**
 * Makes the objects of one device and runs what belongs to no block. Constructors of objects check their arguments and
 * throw InvalidArgument; they run on the caller's thread. Everything else runs on the driver thread, one call at a
 * time.
 */
class Backend {
 public:
  virtual ~Backend() = default;

  virtual const BackendInfo& info() const = 0;
  virtual KernelFamily kernelFamily(WeightFormat format) const = 0;
  /** Arithmetic of attention over pools of a format. */
  virtual KvKernel kvKernel(KvFormat format) const = 0;

  virtual std::shared_ptr<KvPool> createKvPool(const KvPoolOptions& options) = 0;
  virtual std::shared_ptr<StatePool> createStatePool(const StatePoolOptions& options) = 0;
  virtual std::shared_ptr<StepBuffers> createStepBuffers(const StepBuffersOptions& options) = 0;
  virtual std::shared_ptr<Embedding> createEmbedding(const TensorSource& table, WeightFormat format) = 0;
  virtual std::shared_ptr<GatedDeltaNet> createGatedDeltaNet(const GatedDeltaNetSpec& spec,
                                                             const GatedDeltaNetWeights& weights) = 0;
  virtual std::shared_ptr<GatedAttention> createGatedAttention(const GatedAttentionSpec& spec,
                                                               const GatedAttentionWeights& weights) = 0;
  virtual std::shared_ptr<MoeGate> createMoeGate(const MoeGateSpec& spec, const MoeGateWeights& weights) = 0;
  virtual std::shared_ptr<SharedExpert> createSharedExpert(const SharedExpertSpec& spec,
                                                           const SharedExpertWeights& weights) = 0;
  virtual std::shared_ptr<LmHead> createLmHead(const LmHeadSpec& spec, const LmHeadWeights& weights) = 0;
  virtual std::shared_ptr<ExpertShard> createExpertShard(const ExpertShardOptions& options) = 0;

  /** A checked tensor in kFp8, kQ8 or kQ4, row-major. */
  virtual QuantisedTensor quantise(const TensorSource& source, WeightFormat format) = 0;

  virtual void combine(StepBuffers& step) = 0;
  virtual std::vector<Sample> sample(const StepBuffers& step, const std::vector<SampleRequest>& requests) = 0;
  /** Raw log-probabilities of ids in logit rows; on the caller's thread, while the step is not in use. */
  virtual std::vector<Sample> logprobs(const StepBuffers& step, IntView rows, IntView ids, int32_t top) = 0;

  /** Brackets a short call on another thread in the driver's place, which then takes no helpers and no lease. */
  virtual void beginInline() = 0;
  virtual void endInline() = 0;
  /**
   * Brackets a native call on the driver thread, and in it the calls that `interrupt` makes between two of its chunks;
   * null: it is not to be interrupted.
   */
  virtual void beginCall(Interrupt* interrupt) = 0;
  virtual void endCall() = 0;
  /** Between two blocks of one call: what the first needed while it ran is free again. */
  virtual void nextBlock() = 0;
};

/** An entry of the table of backends. */
struct BackendEntry {
  const char* name;
  bool (*available)();
  /** Throws InvalidArgument naming `options.…` when the device lacks what is asked for. */
  std::unique_ptr<Backend> (*create)(const RuntimeOptions& options, std::shared_ptr<MemoryLedger> ledger);
};

/** Backends of this build, in order of preference. */
const std::vector<BackendEntry>& backends();

/** Entry of the cpu backend, always available. */
BackendEntry cpuBackend();

}  // namespace guildhall
