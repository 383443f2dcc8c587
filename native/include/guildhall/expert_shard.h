#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "guildhall/blocks.h"
#include "guildhall/frames.h"
#include "guildhall/tensor.h"

namespace guildhall {

struct ExpertShardOptions {
  int64_t numLayers = 0;
  int64_t numExperts = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  WeightFormat format = WeightFormat::kF32;
  RowFormat rowFormat = RowFormat::kF32;
};

struct ExpertWeights {
  TensorSource gate, up, down;
};

/** One of the experts of a layer to load. */
struct ExpertLoad {
  int64_t expert = 0;
  ExpertWeights weights;
};

/** The experts that one process holds. The table may be changed while forwards run; they keep what they use. */
class ExpertShard {
 public:
  virtual ~ExpertShard() = default;

  virtual const ExpertShardOptions& options() const = 0;
  virtual int64_t expertBytes() const = 0;
  /** Throws InvalidArgument naming `layer`, `expert`, or `gate`, `up` or `down` after `path`. */
  virtual void checkLoad(int64_t layer, int64_t expert, const ExpertWeights& weights,
                         const std::string& path = "") const = 0;
  /** Packs and publishes the expert. Any thread. */
  virtual void load(int64_t layer, int64_t expert, const ExpertWeights& weights) = 0;
  /** `load` of several experts of a layer on as many threads as the backend has, all at the caller's priority. */
  virtual void loadAll(int64_t layer, const std::vector<ExpertLoad>& experts) = 0;
  virtual bool unload(int64_t layer, int64_t expert) = 0;
  virtual bool has(int64_t layer, int64_t expert) const = 0;
  virtual std::vector<int32_t> held(int64_t layer) const = 0;
  /** Driver thread. Serves a ClientFrame{Forward}; whatever a peer sent gets a reply. */
  virtual OwnedFrame forward(ByteView frame, uint32_t queueUs) = 0;

  /** Throws InvalidArgument naming `step`, `layer` or `shared`, which may be null. */
  virtual void checkLocal(int64_t layer, const StepBuffers& step, const SharedExpert* shared) const = 0;
  /**
   * Driver thread. hidden += the experts of the step's last gate and the shared expert, bit for bit as by messages in
   * exact mode, `shared->forward` and `combine`. Throws std::runtime_error when an expert is not held.
   */
  virtual void forwardLocal(int64_t layer, StepBuffers& step, SharedExpert* shared) = 0;
};

/** A reply without rows for the request in `frame`; zeros where its header cannot be read. */
OwnedFrame statusReply(ByteView frame, ReplyStatus status, const std::string& error);

}  // namespace guildhall
