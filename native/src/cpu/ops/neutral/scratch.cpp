// Scratch that kernels ask of their callers.

#include "../attention_scratch.h"
#include "../delta_scratch.h"
#include "guildhall/ops/attention.h"
#include "guildhall/ops/gated_delta_net.h"
#include "guildhall/ops/topk.h"

namespace guildhall {

int64_t attentionScratchFloats(int64_t numHeads, int64_t numKvHeads, int64_t headDim, int threads) {
  const AttentionShape s = attentionShape(numHeads, numKvHeads, headDim, threads);
  return threads * s.threadFloats + s.partials * s.partialFloats;
}

int64_t deltaNetScratchFloats(const DeltaNetShape& shape, int threads) {
  return threads * DeltaSizes(shape).threadFloats();
}

int64_t softmaxTopkScratchFloats(int64_t numExperts, int threads) { return threads * ((numExperts + 15) / 16 * 16); }

}  // namespace guildhall
