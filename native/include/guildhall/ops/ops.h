#pragma once

#include <cstdint>

#include "guildhall/bf16.h"
#include "guildhall/ops/attention.h"
#include "guildhall/ops/gated_delta_net.h"
#include "guildhall/ops/isa.h"
#include "guildhall/ops/norm.h"
#include "guildhall/ops/rope.h"
#include "guildhall/ops/topk.h"
#include "guildhall/ops/vec.h"
#include "guildhall/parallel.h"

namespace guildhall {

/**
 * The vector kernels of one instruction set. Every entry is a pure function of its arguments, checks nothing (the caller
 * has checked) and gives the same bits in every table and for every way in which `par` splits the work.
 * Pointers need the alignment of their element only.
 */
struct OpsTable {
  Isa isa;

  // Whole arrays on the calling thread; out may be x.
  void (*exp)(const float* x, float* out, int64_t n);
  void (*sigmoid)(const float* x, float* out, int64_t n);
  void (*silu)(const float* x, float* out, int64_t n);
  /** x > 20 ? x : log(1 + exp(x)). */
  void (*softplus)(const float* x, float* out, int64_t n);
  /** Largest element, -infinity for n = 0. With a NaN anywhere the result is NaN. */
  float (*maxValue)(const float* x, int64_t n);
  /** out[i] = exp((x[i] - shift) * factor), out may be null; returns the sum (f32 in blocks of 1024, blocks in f64, in order). */
  double (*expSum)(const float* x, float shift, float factor, float* out, int64_t n);
  /** Writes the indexes (ascending) of elements >= threshold to `out`, at most `capacity`; returns how many there are in all. */
  int64_t (*indexesAtLeast)(const float* x, float threshold, int32_t* out, int64_t capacity, int64_t n);

  // Parallel.
  /** Round to nearest even. */
  void (*roundToBf16)(ParallelFor& par, const float* x, Bf16* out, int64_t n);
  void (*widenBf16)(ParallelFor& par, const Bf16* x, float* out, int64_t n);
  void (*siluMul)(ParallelFor& par, const SiluMulArgs& args);
  void (*addRows)(ParallelFor& par, const AddRowsArgs& args);
  void (*gateMul)(ParallelFor& par, const GateMulArgs& args);
  void (*rmsNorm)(ParallelFor& par, const RmsNormArgs& args);
  void (*rope)(ParallelFor& par, const RopeArgs& args);
  void (*kvWrite)(ParallelFor& par, const KvWriteArgs& args);
  void (*prepareHeads)(ParallelFor& par, const HeadPrepArgs& args);
  void (*attention)(ParallelFor& par, const AttentionArgs& args);
  void (*deltaNet)(ParallelFor& par, const DeltaNetArgs& args);
  void (*softmaxTopk)(ParallelFor& par, const SoftmaxTopkArgs& args);
};

/** Table of a variant; the caller has checked isaSupported(). */
const OpsTable& ops(Isa isa);

}  // namespace guildhall
