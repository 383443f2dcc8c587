#pragma once

#include <atomic>
#include <cstdint>

namespace guildhall {

/**
 * Gate of a mixture of experts: p = softmax(logits[r]) over all experts in f32, the k largest p in descending order
 * (ties: lower expert first), divided by their sum when `renormalize`.
 */
struct SoftmaxTopkArgs {
  const float* logits = nullptr;
  int64_t logitStride = 0;
  int64_t rows = 0;
  int64_t numExperts = 0;
  /** 1 <= k <= numExperts. */
  int64_t k = 0;
  bool renormalize = true;
  /** [rows][k]. */
  int32_t* ids = nullptr;
  float* weights = nullptr;
  /** softmaxTopkScratchFloats() floats. */
  float* scratch = nullptr;
  /**
   * Lowered to the smallest row whose logits hold a NaN or +infinity, when there is one below its value. Start it at
   * INT64_MAX. Such a row gets ids 0..k-1 and weights 0. May be null.
   */
  std::atomic<int64_t>* badRow = nullptr;
};

/** Floats of scratch for any number of rows on `threads` threads. */
int64_t softmaxTopkScratchFloats(int64_t numExperts, int threads);

}  // namespace guildhall
