#pragma once

#include <cstdint>

#include "guildhall/ops/batch.h"

namespace guildhall {

/**
 * Depthwise causal convolution over time, then SiLU, per channel c and row t of a sequence:
 *   out[t][c] = silu(sum_{j < kernel} w[j][c] * x[t - kernel + 1 + j][c]),
 * rows before the batch coming from the state. Afterwards the state holds the last kernel-1 raw rows.
 * Kernel 2 to 8. `out` must not overlap `x`. Sequences with no rows keep their state.
 */
struct CausalConvArgs {
  BatchView batch;
  const float* x = nullptr;
  int64_t xRowStride = 0;
  /** [kernel][channels]: the checkpoint's [channels][1][kernel] transposed. */
  const float* weight = nullptr;
  int64_t channels = 0;
  int64_t kernel = 4;
  /** Slot s at state + s * stateStride: [kernel-1][channels], oldest row first. */
  float* state = nullptr;
  int64_t stateStride = 0;
  float* out = nullptr;
  int64_t outRowStride = 0;
};

/**
 * Gates of the delta rule for [rows][heads]:
 *   beta = sigmoid(b), g = -exp(aLog) * softplus(a + dtBias), softplus(x) = x > 20 ? x : log(1 + exp(x)).
 * beta and g are [rows][heads] contiguous.
 */
struct DeltaGatesArgs {
  const float* b = nullptr;
  int64_t bRowStride = 0;
  const float* a = nullptr;
  int64_t aRowStride = 0;
  const float* aLog = nullptr;
  const float* dtBias = nullptr;
  float* beta = nullptr;
  float* g = nullptr;
  int64_t rows = 0;
  int64_t heads = 0;
};

/**
 * The gated delta rule per value head, state S [Dk][Dv] f32, value head j with key head j / (Hv / Hk).
 * Recurrent (kModeRecurrent), token by token:
 *   S = exp(g) S;  d = beta (v - k^T S);  S = S + k d^T;  o = q^T S.
 * Chunked (kModeChunked), chunks of 64 from the sequence's first row, whose contextLen is a multiple of 64, with
 * G = cumsum(g) in the chunk and L_ij = exp(G_i - G_j) for j <= i:
 *   solve (I + strictLower(diag(beta) K K^T * L)) D = beta (V - exp(G) K S)    by forward substitution
 *   O = exp(G) Q S + ((Q K^T) * L) D;   S = exp(G_last) S + (exp(G_last - G) K)^T D.
 * The last chunk may be shorter. q (already scaled) and k are [T][Hk][Dk], v [T][Hv][Dv], o [T][Hv][Dv]: heads contiguous,
 * row strides in floats. beta and g are [T][Hv] contiguous. A row's bits depend only on its sequence's rows from the
 * chunk grid on and the state, not on the batch or on threads.
 */
struct DeltaRuleArgs {
  BatchView batch;
  const float* q = nullptr;
  int64_t qRowStride = 0;
  const float* k = nullptr;
  int64_t kRowStride = 0;
  const float* v = nullptr;
  int64_t vRowStride = 0;
  const float* beta = nullptr;
  const float* g = nullptr;
  float* out = nullptr;
  int64_t outRowStride = 0;
  int64_t numKeyHeads = 0;
  int64_t numValueHeads = 0;
  int64_t keyDim = 0;
  int64_t valueDim = 0;
  /** Slot s at state + s * stateStride: [Hv][Dk][Dv]. */
  float* state = nullptr;
  int64_t stateStride = 0;
  /** deltaRuleScratchFloats() floats, any alignment. */
  float* scratch = nullptr;
};

/** Floats of scratch for any batch on `threads` threads. */
int64_t deltaRuleScratchFloats(int64_t keyDim, int64_t valueDim, int threads);

}  // namespace guildhall
