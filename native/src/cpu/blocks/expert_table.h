#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "expert_ffn.h"
#include "guildhall/expert_shard.h"

namespace guildhall {

using ExpertPtr = std::shared_ptr<const PackedFfn>;

/** The packed experts of one process, [layer][expert]. Any thread. */
class ExpertTable {
 public:
  explicit ExpertTable(const ExpertShardOptions& options)
      : options_(options), experts_(static_cast<size_t>(options.numLayers * options.numExperts)) {}

  /** Null where none is held. */
  ExpertPtr get(int64_t layer, int64_t expert) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return experts_[indexOf(layer, expert)];
  }

  /** Puts an expert (or null) in place and returns what was there, so that it is freed outside the lock. */
  ExpertPtr exchange(int64_t layer, int64_t expert, ExpertPtr packed) {
    const std::lock_guard<std::mutex> lock(mutex_);
    experts_[indexOf(layer, expert)].swap(packed);
    return packed;
  }

  /** Experts held in a layer, ascending. */
  std::vector<int32_t> held(int64_t layer) const {
    std::vector<int32_t> result;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (int64_t e = 0; e < options_.numExperts; ++e) {
      if (experts_[indexOf(layer, e)]) result.push_back(static_cast<int32_t>(e));
    }
    return result;
  }

 private:
  size_t indexOf(int64_t layer, int64_t expert) const {
    return static_cast<size_t>(layer * options_.numExperts + expert);
  }

  ExpertShardOptions options_;
  mutable std::mutex mutex_;
  /** Guarded by mutex_. */
  std::vector<ExpertPtr> experts_;
};

}  // namespace guildhall
