#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "guildhall/backend.h"

namespace guildhall {

/** The blocks of one layer; exactly one of the mixers is there. */
struct ProgramLayer {
  std::shared_ptr<GatedDeltaNet> deltaNet;
  std::shared_ptr<GatedAttention> attention;
  std::shared_ptr<MoeGate> gate;
  /** Null in models without one. */
  std::shared_ptr<SharedExpert> shared;
};

/** What a part of a forward pass works on. */
struct ProgramRun {
  StepBuffers* step = nullptr;
  /** Null where the model has no such layers. */
  StatePool* states = nullptr;
  KvPool* kv = nullptr;
  /** Layers [first, last). The embedding goes before layer 0, the head after the last layer. */
  int64_t first = 0;
  int64_t last = 0;
  /** Rows of the step whose logits are wanted after the last layer; the head is skipped without any. */
  IntView logitRows;
};

/**
 * The blocks of a model whose experts are in the same process, run many layers at a time in one job. It knows
 * blocks by their interfaces only.
 */
class ForwardProgram {
 public:
  /** Throws InvalidArgument naming `parts.…`. All parts are of `backend`. */
  ForwardProgram(Backend& backend, std::shared_ptr<Embedding> embedding, std::vector<ProgramLayer> layers,
                 std::shared_ptr<LmHead> head, std::shared_ptr<ExpertShard> experts);

  int64_t numLayers() const { return static_cast<int64_t>(layers_.size()); }
  /** Caller's thread. Throws InvalidArgument as the blocks do, or naming `first`, `last`. */
  void check(const ProgramRun& run) const;
  /** Driver thread; `check` has passed. */
  void forward(const ProgramRun& run);

 private:
  void checkLayer(const ProgramRun& run, int64_t index) const;
  void runLayer(const ProgramRun& run, int64_t index);

  Backend& backend_;
  std::shared_ptr<Embedding> embedding_;
  std::vector<ProgramLayer> layers_;
  std::shared_ptr<LmHead> head_;
  std::shared_ptr<ExpertShard> experts_;
};

}  // namespace guildhall
