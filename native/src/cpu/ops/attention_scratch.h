#pragma once

// Sizes of the scratch of paged attention: shared by the kernels and the function that callers size it with.

#include <cstdint>

#include "guildhall/ops/batch.h"

namespace guildhall {

/** Query vectors (row, head) that share the loads of a page. */
constexpr int64_t kQueryBlock = 64;

/** Floats between the rows of widened values beyond headDim: rows a power of two apart would collide in the cache. */
constexpr int64_t kValuePad = 16;

struct AttentionShape {
  /** Query heads and rows of a block; their product is at most kQueryBlock. */
  int64_t blockHeads;
  int64_t blockRows;
  /** Blocks that the heads of one kv head need. */
  int64_t headBlocks;
  /** headDim rounded up to whole vectors. */
  int64_t paddedDim;
  /** Floats of one thread's buffers. */
  int64_t threadFloats;
  /** Floats of one (maximum, sum, accumulator) triple for each query vector of a block. */
  int64_t partialFloats;
  /** Triples for which there is room when splits run in parallel. */
  int64_t partials;
};

static inline __attribute__((always_inline)) AttentionShape attentionShape(int64_t numHeads, int64_t numKvHeads,
                                                                           int64_t headDim, int threads) {
  AttentionShape s{};
  const int64_t group = numHeads / numKvHeads;
  s.blockHeads = group < kQueryBlock ? group : kQueryBlock;
  s.blockRows = kQueryBlock / s.blockHeads;
  s.headBlocks = (group + s.blockHeads - 1) / s.blockHeads;
  s.paddedDim = (headDim + 15) / 16 * 16;
  s.partialFloats = kQueryBlock * (s.paddedDim + 2);
  // Scaled queries, two triples, scores of a page, widened K and V of a page, three small rows.
  s.threadFloats = kQueryBlock * headDim + 2 * s.partialFloats + kQueryBlock * kPageTokens +
                   (2 * headDim + kValuePad) * kPageTokens + 3 * kQueryBlock;
  s.partials = 6 * static_cast<int64_t>(threads);
  return s;
}

}  // namespace guildhall
