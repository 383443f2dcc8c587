#include "guildhall/program.h"

#include <string>
#include <utility>

#include "guildhall/check.h"

namespace guildhall {

ForwardProgram::ForwardProgram(Backend& backend, std::shared_ptr<Embedding> embedding, std::vector<ProgramLayer> layers,
                               std::shared_ptr<LmHead> head, std::shared_ptr<ExpertShard> experts)
    : backend_(backend),
      embedding_(std::move(embedding)),
      layers_(std::move(layers)),
      head_(std::move(head)),
      experts_(std::move(experts)) {
  checkRange("parts.layers.length", numLayers(), 1, kMaxCount);
  if (experts_->options().numLayers != numLayers()) {
    failRange("parts.experts", std::to_string(experts_->options().numLayers) + " layers, expected " +
                                   std::to_string(numLayers()));
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    const ProgramLayer& layer = layers_[i];
    if ((layer.deltaNet != nullptr) == (layer.attention != nullptr)) {
      failRange("parts.layers[" + std::to_string(i) + "]", "needs one mixer");
    }
  }
}

void ForwardProgram::checkLayer(const ProgramRun& run, int64_t index) const {
  const ProgramLayer& layer = layers_[static_cast<size_t>(index)];
  if (layer.deltaNet) {
    if (run.states == nullptr) failRange("states", "is null, and layer " + std::to_string(index) + " needs it");
    layer.deltaNet->check(*run.step, *run.states);
  } else {
    if (run.kv == nullptr) failRange("kv", "is null, and layer " + std::to_string(index) + " needs it");
    layer.attention->check(*run.step, *run.kv);
  }
  layer.gate->check(*run.step);
  experts_->checkLocal(index, *run.step, layer.shared.get());
}

void ForwardProgram::check(const ProgramRun& run) const {
  checkRange("first", run.first, 0, numLayers() - 1);
  checkRange("last", run.last, run.first + 1, numLayers());
  if (run.first == 0) embedding_->check(*run.step);
  for (int64_t i = run.first; i < run.last; ++i) checkLayer(run, i);
  if (run.last == numLayers()) head_->check(*run.step, run.logitRows);
}

void ForwardProgram::runLayer(const ProgramRun& run, int64_t index) {
  const ProgramLayer& layer = layers_[static_cast<size_t>(index)];
  if (layer.deltaNet) {
    layer.deltaNet->forward(*run.step, *run.states);
  } else {
    layer.attention->forward(*run.step, *run.kv);
  }
  backend_.nextBlock();
  layer.gate->forward(*run.step);
  backend_.nextBlock();
  experts_->forwardLocal(index, *run.step, layer.shared.get());
  backend_.nextBlock();
}

void ForwardProgram::forward(const ProgramRun& run) {
  if (run.first == 0) embedding_->forward(*run.step);
  for (int64_t i = run.first; i < run.last; ++i) runLayer(run, i);
  if (run.last == numLayers() && run.logitRows.size > 0) head_->forward(*run.step, run.logitRows);
}

}  // namespace guildhall
