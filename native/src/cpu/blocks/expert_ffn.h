#pragma once

#include <vector>

#include "../context.h"

namespace guildhall {

/** The packed weights of one feed-forward network down(silu(gate x) * up x). */
struct PackedFfn {
  /** Rows [gate | up]. */
  PackedLinear gateUp;
  PackedLinear down;

  int64_t intermediate() const { return down.k(); }
  int64_t hidden() const { return down.n(); }
};

/** Rows that go through one network. */
struct FfnGroup {
  const PackedFfn* ffn = nullptr;
  /** Rows prepared for the network's family. */
  MatmulInput input;
  /** Row of `input` of each row of the group; null for 0 … count - 1. */
  const int32_t* rowIndex = nullptr;
  int64_t count = 0;
  /** f32 [count][hidden]. */
  float* out = nullptr;
};

/**
 * Runs every group with three parallel regions for all of them together, so that each weight is read once: gate and
 * up, activation, down. The products of `beside` run in the first one. A row's bits depend on the row and its network
 * only.
 */
void runFfn(CpuContext& cpu, const std::vector<FfnGroup>& groups, const std::vector<MatmulJob>& beside);

}  // namespace guildhall
