#pragma once

#include <cstdint>

#include "guildhall/ops/attention_plan.h"
#include "guildhall/ops/batch.h"
#include "guildhall/ops/kv_layout.h"

namespace guildhall {

/**
 * Writes K (after norm and rope) and V of the batch's rows to their pages: row r of sequence i is token
 * contextLen[i] + r - rowStart[i]. k and v are [T][Nkv][D] with contiguous heads; row strides in floats. bf16 pages
 * take round-to-nearest-even; fp8 pages take x * (448 / max|x|) to nearest even and max|x| / 448 as the factor of the
 * token's head. Pages of one batch's written tokens must not be shared between its sequences.
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
 * What comes between the projections and attention, in one pass over the rows: norm over each head of q and k in place
 * (RmsNormArgs' formula), rotation of their leading 2 * half dimensions in place (RopeArgs' formula), and
 * kvWrite of k and v. Same bits as the separate kernels.
 */
struct HeadPrepArgs {
  /** k and v of the batch's rows, and the pages. */
  KvWriteArgs write;
  float* q = nullptr;
  int64_t qRowStride = 0;
  int64_t qHeadStride = 0;
  int64_t numHeads = 0;
  /** [headDim] each. */
  const float* qNorm = nullptr;
  const float* kNorm = nullptr;
  float eps = 1e-6f;
  bool zeroCentered = false;
  /** Tables [rows][half], by row of the buffers; 0 rotates nothing. */
  int64_t half = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  /** write.k, which is normed and rotated where it lies. */
  float* k = nullptr;
};

/**
 * Causal paged attention with grouped queries: query head h reads kv head h / (numHeads / numKvHeads);
 * row r of sequence i sees tokens [0, contextLen[i] + (r - rowStart[i])] of it, its own included (so kvWrite runs first).
 *   out[r][h] = softmax(scale * q[r][h] . K^T) V  [* sigmoid(gate[r][h])]
 * Online softmax page by page inside a split of kSplitPages, splits merged in order; f32 accumulators. With kDot pages
 * the scaled queries and the unnormalised weights are rounded to bf16, and the weights are normalised by the sum of what
 * they were rounded to.
 * A row's result depends only on its own query and visible tokens: not on the batch, on blocks, on threads, or on
 * what a page holds past the causal limit. numHeads is a multiple of numKvHeads. Any headDim.
 */
struct AttentionArgs {
  BatchView batch;
  KvView kv;
  const float* q = nullptr;
  int64_t qRowStride = 0;
  int64_t qHeadStride = 0;
  /** Strided as q; null for none. */
  const float* gate = nullptr;
  float* out = nullptr;
  int64_t outRowStride = 0;
  int64_t outHeadStride = 0;
  int64_t numHeads = 0;
  /** headDim^-0.5. */
  float scale = 1.0f;
  /** Set for this batch, these heads and the threads of `par`. */
  const AttentionPlan* plan = nullptr;
  /** plan->scratchFloats() floats, any alignment of floats. */
  float* scratch = nullptr;
};

}  // namespace guildhall
