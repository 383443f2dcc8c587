#pragma once

#include <memory>

#include "../context.h"
#include "guildhall/blocks.h"
#include "guildhall/expert_shard.h"

// Constructors of the cpu blocks. They check specs and weights and throw InvalidArgument naming `spec.…` or
// `weights.…`.

namespace guildhall {

std::shared_ptr<Embedding> makeCpuEmbedding(CpuContextPtr cpu, const TensorSource& table, WeightFormat format);
std::shared_ptr<GatedDeltaNet> makeCpuGatedDeltaNet(CpuContextPtr cpu, const GatedDeltaNetSpec& spec,
                                                    const GatedDeltaNetWeights& weights);
std::shared_ptr<GatedAttention> makeCpuGatedAttention(CpuContextPtr cpu, const GatedAttentionSpec& spec,
                                                      const GatedAttentionWeights& weights);
std::shared_ptr<MoeGate> makeCpuMoeGate(CpuContextPtr cpu, const MoeGateSpec& spec, const MoeGateWeights& weights);
std::shared_ptr<SharedExpert> makeCpuSharedExpert(CpuContextPtr cpu, const SharedExpertSpec& spec,
                                                  const SharedExpertWeights& weights);
std::shared_ptr<LmHead> makeCpuLmHead(CpuContextPtr cpu, const LmHeadSpec& spec, const LmHeadWeights& weights);
std::shared_ptr<ExpertShard> makeCpuExpertShard(CpuContextPtr cpu, const ExpertShardOptions& options);

/** hidden += expert rows and shared output; `checkCombine` has passed. */
void combineOnCpu(CpuContext& cpu, StepBuffers& step);

}  // namespace guildhall
