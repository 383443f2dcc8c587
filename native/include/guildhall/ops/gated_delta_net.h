#pragma once

#include <cstdint>

#include "guildhall/ops/batch.h"

namespace guildhall {

/** Heads of a gated delta net; numValueHeads is a multiple of numKeyHeads. */
struct DeltaNetShape {
  int64_t numKeyHeads = 0;
  int64_t numValueHeads = 0;
  int64_t keyDim = 0;
  int64_t valueDim = 0;

  /** Columns [q | k | v] of the convolution. */
  constexpr int64_t channels() const { return 2 * numKeyHeads * keyDim + numValueHeads * valueDim; }
  constexpr int64_t valueHeadsPerKeyHead() const { return numValueHeads / numKeyHeads; }
};

/**
 * Everything of a gated delta net between its two projections, in one pass over the rows. A row of `x` is
 * [q Hk*Dk | k Hk*Dk | v Hv*Dv | z Hv*Dv | b Hv | a Hv].
 *
 * 1. Causal convolution over time, then SiLU, of each channel c of q, k and v; rows before the batch are the state's:
 *      y[t][c] = silu(sum_{j < kernel} w[j][c] x[t - kernel + 1 + j][c]).
 *    Afterwards the state holds the last kernel-1 raw rows.
 * 2. q = q / sqrt(sum(q^2) + l2Eps) / sqrt(Dk) and k = k / sqrt(sum(k^2) + l2Eps), per head.
 * 3. Gates: beta = sigmoid(b), g = -exp(aLog) softplus(a + dtBias), softplus(x) = x > 20 ? x : log(1 + exp(x)).
 * 4. The gated delta rule per value head, state S [Dk][Dv], value head j with key head j / (Hv / Hk).
 *    Recurrent (kModeRecurrent), token by token:
 *      S = exp(g) S;  d = beta (v - k^T S);  S = S + k d^T;  o = q^T S.
 *    Chunked (kModeChunked), chunks of 64 from the sequence's first row, whose contextLen is a multiple of 64, with
 *    G = cumsum(g) in the chunk and L_ij = exp(G_i - G_j) for j <= i:
 *      solve (I + strictLower(diag(beta) K K^T * L)) D = beta (V - exp(G) K S)    by forward substitution
 *      O = exp(G) Q S + ((Q K^T) * L) D;   S = exp(G_last) S + (exp(G_last - G) K)^T D.
 *    The last chunk may be shorter.
 * 5. out = o / sqrt(mean(o^2) + normEps) * normWeight * silu(z), per value head.
 *
 * A sequence's state begins as the batch's initState says: its own slot's, zeros, or that of another slot, which is only
 * read. A snapshot slot takes S and the last kernel-1 raw rows as they are after some of the rows: the bits that the
 * sequence's own slot would have if it ended there.
 *
 * A row's bits depend only on its sequence's rows (from the chunk grid on) and the state, not on the batch, on threads or
 * on the instruction set. Sequences without rows or with a negative slot keep their state and their part of `out`.
 */
struct DeltaNetArgs {
  BatchView batch;
  DeltaNetShape shape;
  const float* x = nullptr;
  int64_t xRowStride = 0;
  /** [kernel][channels]: the checkpoint's [channels][1][kernel] transposed. Kernel 2 to 8. */
  const float* convWeight = nullptr;
  int64_t convKernel = 4;
  /** [Hv]. */
  const float* aLog = nullptr;
  const float* dtBias = nullptr;
  /** [Dv]. */
  const float* normWeight = nullptr;
  float normEps = 1e-6f;
  float l2Eps = 1e-6f;
  /** Slot s at state + s * stateStride: S [Hv][Dk][Dv]. */
  float* state = nullptr;
  /** Slot s at convState + s * stateStride: [kernel-1][channels], oldest row first. */
  float* convState = nullptr;
  int64_t stateStride = 0;
  /** [channels] zeros; may be null where no sequence begins with kInitZeros. */
  const float* zeros = nullptr;
  /** [T][Hv*Dv]; must not overlap `x`. */
  float* out = nullptr;
  int64_t outRowStride = 0;
  /** deltaNetScratchFloats() floats, any alignment. */
  float* scratch = nullptr;
};

/** Floats of scratch for any batch on `threads` threads. */
int64_t deltaNetScratchFloats(const DeltaNetShape& shape, int threads);

}  // namespace guildhall
