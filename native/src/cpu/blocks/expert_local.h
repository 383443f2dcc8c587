#pragma once

#include "expert_groups.h"
#include "shared_expert.h"

namespace guildhall {

/**
 * hidden += gate-weighted experts of the last gate, and the shared expert if there is one. Bit for bit what messages to
 * the shard, the shared expert and combine give. Throws std::runtime_error naming an expert that is not held.
 */
void runLocalExperts(CpuContext& cpu, const ExpertShardOptions& options, const ExpertTable& table, int64_t layer,
                     StepBuffers& step, CpuSharedExpert* shared);

}  // namespace guildhall
