#pragma once

#include <cstdint>

#include "guildhall/ops/batch.h"

namespace guildhall {

/** Pages per split of the context; partial softmax results are merged in order of splits, whatever the batch. */
constexpr int kSplitPages = 16;

/**
 * Layout of a KV pool. A page holds 64 tokens of all full-attention layers; with element type f32 or bf16:
 *   page p at base + p * pageElements; inside, layer l at l * layerElements; inside, K of head h at h * D * 64 as
 *   [D][64] (dimension-major), and V of head h at Nkv * D * 64 + h * 64 * D as [64][D] (token-major).
 */
struct KvLayout {
  int64_t numLayers = 0;
  int64_t numKvHeads = 0;
  int64_t headDim = 0;

  int64_t headElements() const { return headDim * kPageTokens; }
  int64_t layerElements() const { return 2 * numKvHeads * headElements(); }
  int64_t pageElements() const { return numLayers * layerElements(); }
};

/** One layer of a KV pool. */
struct KvView {
  /** First element of page 0, of type float or Bf16. */
  void* base = nullptr;
  bool bf16 = false;
  /** Elements from one page to the next. */
  int64_t pageStride = 0;
  /** layer * layerElements(). */
  int64_t layerOffset = 0;
  int64_t numKvHeads = 0;
  int64_t headDim = 0;
};

/**
 * Writes K (after norm and rope) and V of the batch's rows to their pages: row r of sequence i is token
 * contextLen[i] + r - rowStart[i]. k and v are [T][Nkv][D] with contiguous heads; row strides in floats. bf16 pages
 * take round-to-nearest-even. Pages of one batch's written tokens must not be shared between its sequences.
 */
struct KvWriteArgs {
  BatchView batch;
  KvView kv;
  const float* k = nullptr;
  int64_t kRowStride = 0;
  const float* v = nullptr;
  int64_t vRowStride = 0;
};

/**
 * Causal paged attention with grouped queries: query head h reads kv head h / (numHeads / numKvHeads);
 * row r of sequence i sees tokens [0, contextLen[i] + (r - rowStart[i])] of it, its own included (so KvWrite runs first).
 *   out[r][h] = softmax(scale * q[r][h] . K^T) V     (f32; online softmax page by page inside a split of kSplitPages,
 *                                                     splits merged in order)
 * A row's result depends only on its own query and visible tokens: not on the batch, on blocks, on threads, or on
 * what a page holds past the causal limit. numHeads is a multiple of numKvHeads. Any headDim.
 */
struct AttentionArgs {
  BatchView batch;
  KvView kv;
  const float* q = nullptr;
  int64_t qRowStride = 0;
  int64_t qHeadStride = 0;
  float* out = nullptr;
  int64_t outRowStride = 0;
  int64_t outHeadStride = 0;
  int64_t numHeads = 0;
  /** headDim^-0.5. */
  float scale = 1.0f;
  /** attentionScratchFloats() floats, any alignment. */
  float* scratch = nullptr;
};

/** Floats of scratch for any batch with these heads on `threads` threads. */
int64_t attentionScratchFloats(int64_t numHeads, int64_t numKvHeads, int64_t headDim, int threads);

}  // namespace guildhall
