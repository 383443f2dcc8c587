// Scratch that kernels ask of their callers.

#include "../delta_scratch.h"
#include "guildhall/ops/gated_delta_net.h"
#include "guildhall/ops/topk.h"

namespace guildhall {

int64_t deltaNetScratchFloats(const DeltaNetShape& shape, int threads) {
  return threads * DeltaSizes(shape).threadFloats();
}

int64_t softmaxTopkScratchFloats(int64_t numExperts, int threads) { return threads * ((numExperts + 15) / 16 * 16); }

}  // namespace guildhall
