#pragma once

#include <cstdint>
#include <vector>

#include "guildhall/pools.h"
#include "guildhall/step_buffers.h"
#include "guildhall/tensor.h"

// Specs and interfaces of the blocks; shapes and formulas are in native.ts. `check…` methods run on the caller's thread
// and throw InvalidArgument; forwards run on the driver thread.

namespace guildhall {

struct NormSpec {
  float eps = 1e-6f;
  bool zeroCentered = false;
};

struct GatedDeltaNetSpec {
  int64_t hidden = 0;
  int64_t numKeyHeads = 0;
  int64_t numValueHeads = 0;
  int64_t keyHeadDim = 0;
  int64_t valueHeadDim = 0;
  int64_t convKernel = 0;
  NormSpec inputNorm;
  float outputEps = 1e-6f;
  WeightFormat format = WeightFormat::kF32;
  int64_t stateLayer = 0;

  int64_t keyDim() const { return numKeyHeads * keyHeadDim; }
  int64_t valueDim() const { return numValueHeads * valueHeadDim; }
  int64_t convDim() const { return 2 * keyDim() + valueDim(); }
};

struct GatedDeltaNetWeights {
  TensorSource inputNorm, inProjQkv, inProjZ, inProjB, inProjA, conv, dtBias, aLog, norm, outProj;
};

class GatedDeltaNet {
 public:
  virtual ~GatedDeltaNet() = default;
  virtual void check(const StepBuffers& step, const StatePool& states) const = 0;
  virtual void forward(StepBuffers& step, StatePool& states) = 0;
};

struct GatedAttentionSpec {
  int64_t hidden = 0;
  int64_t numHeads = 0;
  int64_t numKvHeads = 0;
  int64_t headDim = 0;
  int64_t rotaryDim = 0;
  std::vector<float> invFreq;
  std::vector<int32_t> freqAxis;
  float ropeScale = 1.0f;
  bool outputGate = false;
  NormSpec inputNorm;
  NormSpec qkNorm;
  WeightFormat format = WeightFormat::kF32;
  int64_t kvLayer = 0;
};

struct GatedAttentionWeights {
  TensorSource inputNorm, qProj, kProj, vProj, oProj, qNorm, kNorm;
};

class GatedAttention {
 public:
  virtual ~GatedAttention() = default;
  virtual void check(const StepBuffers& step, const KvPool& kv) const = 0;
  virtual void forward(StepBuffers& step, KvPool& kv) = 0;
};

struct MoeGateSpec {
  int64_t hidden = 0;
  int64_t numExperts = 0;
  int64_t topK = 0;
  bool normTopk = true;
  NormSpec norm;
  WeightFormat format = WeightFormat::kF32;
};

struct MoeGateWeights {
  TensorSource norm, gate;
};

class MoeGate {
 public:
  virtual ~MoeGate() = default;
  virtual void check(const StepBuffers& step) const = 0;
  virtual void forward(StepBuffers& step) = 0;
};

struct SharedExpertSpec {
  int64_t hidden = 0;
  int64_t intermediate = 0;
  WeightFormat format = WeightFormat::kF32;
};

struct SharedExpertWeights {
  TensorSource gate, up, down, sharedGate;
};

class SharedExpert {
 public:
  virtual ~SharedExpert() = default;
  virtual void check(const StepBuffers& step) const = 0;
  virtual void forward(StepBuffers& step) = 0;
};

class Embedding {
 public:
  virtual ~Embedding() = default;
  virtual void check(const StepBuffers& step) const = 0;
  virtual void forward(StepBuffers& step) = 0;
};

struct LmHeadSpec {
  int64_t hidden = 0;
  int64_t vocab = 0;
  int64_t tokenizerSize = 0;
  NormSpec norm;
  WeightFormat format = WeightFormat::kF32;
};

struct LmHeadWeights {
  TensorSource norm, head;
};

class LmHead {
 public:
  virtual ~LmHead() = default;
  virtual void check(const StepBuffers& step, IntView rowIndex) const = 0;
  virtual void forward(StepBuffers& step, IntView rowIndex) = 0;
};

/** hidden += gate-weighted expert rows and the shared expert's output; nothing may be missing. */
void checkCombine(const StepBuffers& step);

}  // namespace guildhall
