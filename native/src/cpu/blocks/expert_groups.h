#pragma once

#include <vector>

#include "expert_table.h"

namespace guildhall {

/**
 * The entries of a request or step in order of their experts, and the groups that they make. Experts are held for as
 * long as this lives. Arrays are in the arena.
 */
struct ExpertGroups {
  int64_t numEntries = 0;
  /** Entry at each place, ascending by expert, then by entry. */
  int32_t* order = nullptr;
  /** Input row of each place. */
  int32_t* rowIndex = nullptr;
  std::vector<ExpertPtr> held;
  std::vector<FfnGroup> groups;
  /** Experts with entries and without weights, ascending. There are no groups then. */
  std::vector<int32_t> notHeld;

  /**
   * Groups of `numEntries` entries. `experts` are inside [0, numExperts); `rowOf(entry)` gives an entry's row; outputs
   * go to `out` [numEntries][hidden], in the order of places.
   */
  template <typename RowOf>
  static ExpertGroups make(Arena& arena, const ExpertTable& table, const ExpertShardOptions& options, int64_t layer,
                           const int32_t* experts, int64_t numEntries, RowOf rowOf);

  /** Where the inputs are and the outputs go. */
  void bind(const MatmulInput& input, float* out, int64_t hidden) {
    int64_t place = 0;
    for (FfnGroup& group : groups) {
      group.input = input;
      group.out = out + place * hidden;
      place += group.count;
    }
  }

 private:
  void find(const ExpertTable& table, int64_t layer, const int32_t* begin, int64_t numExperts);
};

template <typename RowOf>
ExpertGroups ExpertGroups::make(Arena& arena, const ExpertTable& table, const ExpertShardOptions& options,
                                int64_t layer, const int32_t* experts, int64_t numEntries, RowOf rowOf) {
  ExpertGroups result;
  result.numEntries = numEntries;
  result.order = arena.take<int32_t>(numEntries);
  result.rowIndex = arena.take<int32_t>(numEntries);
  auto* const begin = arena.take<int32_t>(options.numExperts + 2);
  std::fill_n(begin, options.numExperts + 2, 0);
  // A counting sort: begin[e + 1] walks from the first place of e to that of e + 1 while e's entries are placed.
  for (int64_t i = 0; i < numEntries; ++i) ++begin[experts[i] + 2];
  for (int64_t e = 1; e < options.numExperts + 2; ++e) begin[e] += begin[e - 1];
  for (int64_t i = 0; i < numEntries; ++i) {
    const int32_t place = begin[experts[i] + 1]++;
    result.order[place] = static_cast<int32_t>(i);
    result.rowIndex[place] = static_cast<int32_t>(rowOf(i));
  }
  result.find(table, layer, begin, options.numExperts);
  return result;
}

inline void ExpertGroups::find(const ExpertTable& table, int64_t layer, const int32_t* begin, int64_t numExperts) {
  for (int64_t e = 0; e < numExperts; ++e) {
    if (begin[e + 1] == begin[e]) continue;
    ExpertPtr expert = table.get(layer, e);
    if (!expert) {
      notHeld.push_back(static_cast<int32_t>(e));
      continue;
    }
    FfnGroup group;
    group.ffn = expert.get();
    group.rowIndex = rowIndex + begin[e];
    group.count = begin[e + 1] - begin[e];
    groups.push_back(group);
    held.push_back(std::move(expert));
  }
  if (!notHeld.empty()) groups.clear();
}

}  // namespace guildhall
