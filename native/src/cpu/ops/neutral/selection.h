#pragma once

// Selection without sorting, over ids ordered by (value descending, id ascending).

#include <cstdint>
#include <vector>

#include "guildhall/ops/ops.h"

namespace guildhall {

/** Key that orders (value, id): larger value first, then lower id, when keys are compared descending. No NaN. */
uint64_t orderKey(float value, int32_t id);
int32_t idOfKey(uint64_t key);

/** Keys of the k best of values[0..n) that are above -infinity, best first; fewer when there are fewer. */
void topKeys(const float* values, int64_t n, int64_t k, std::vector<uint64_t>& keys);

/**
 * Where the running sum of weights in key order first exceeds `target` (or, with `reach`, first is at least it): returns
 * the key, and in `before` the sum ahead of it. When the total never does, the last key. Expected time linear in the
 * number of keys. Reorders `keys`, which is not empty; weights are looked up by id.
 */
uint64_t keyAtMass(std::vector<uint64_t>& keys, const float* weights, double target, bool reach, double& before);

}  // namespace guildhall
