// ForwardProgram.

#include <vector>

#include "async.h"
#include "errors.h"
#include "guildhall/program.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

/** The object of a part, which must be of the program's runtime. */
template <typename Core>
std::shared_ptr<Core> partOf(const std::shared_ptr<Owned<Core>>& part, const std::shared_ptr<Runtime>& runtime,
                             const Arg& arg) {
  checkSameRuntime(part->runtime, runtime, arg.path());
  return part->core;
}

ProgramLayer readLayer(const std::shared_ptr<Runtime>& runtime, const Arg& arg) {
  ProgramLayer layer;
  const Arg deltaNet = arg.field("deltaNet");
  const Arg attention = arg.field("attention");
  const Arg gate = arg.field("gate");
  const Arg shared = arg.field("shared");
  if (!deltaNet.isNull()) layer.deltaNet = partOf(deltaNetFrom(deltaNet), runtime, deltaNet);
  if (!attention.isNull()) layer.attention = partOf(attentionFrom(attention), runtime, attention);
  layer.gate = partOf(moeGateFrom(gate), runtime, gate);
  if (!shared.isNull()) layer.shared = partOf(sharedExpertFrom(shared), runtime, shared);
  return layer;
}

std::vector<ProgramLayer> readLayers(const std::shared_ptr<Runtime>& runtime, const Arg& arg) {
  if (!arg.value().IsArray()) arg.failType("an array");
  const auto array = arg.value().As<Napi::Array>();
  std::vector<ProgramLayer> layers;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    layers.push_back(readLayer(runtime, Arg(arg.path() + "[" + std::to_string(i) + "]", array.Get(i))));
  }
  return layers;
}

class ForwardProgramWrap final : public Handle<ForwardProgramWrap, Owned<ForwardProgram>> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00022};

  explicit ForwardProgramWrap(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      const auto runtime = runtimeFrom(Arg(info, 0, "runtime"));
      const Arg parts(info, 1, "parts");
      const Arg embedding = parts.field("embedding");
      const Arg head = parts.field("head");
      const Arg experts = parts.field("experts");
      auto core = std::make_shared<ForwardProgram>(
          runtime->backend(), partOf(embeddingFrom(embedding), runtime, embedding),
          readLayers(runtime, parts.field("layers")), partOf(lmHeadFrom(head), runtime, head),
          partOf(expertShardFrom(experts), runtime, experts));
      state_ = std::make_shared<Owned<ForwardProgram>>(Owned<ForwardProgram>{runtime, std::move(core)});
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "ForwardProgram", {InstanceMethod<&ForwardProgramWrap::forward>("forward")});
  }

 private:
  /** What a forward in flight keeps alive. */
  struct Kept {
    std::shared_ptr<StepState> step;
    std::shared_ptr<Owned<StatePool>> states;
    std::shared_ptr<Owned<KvPool>> kv;
    std::vector<int32_t> logitRows;
  };

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      Kept kept;
      ProgramRun run = readRun(info, kept);
      const Lane lane = laneOf(Arg(info, 5, "lane"));
      state_->core->check(run);
      const auto step = kept.step;
      return startOnStep(info.Env(), step, lane,
                         [self = state_, run, kept = std::move(kept)] { self->core->forward(run); });
    });
  }

  ProgramRun readRun(const Napi::CallbackInfo& info, Kept& kept) const {
    ProgramRun run;
    kept.step = stepFrom(Arg(info, 0, "step"));
    checkSameRuntime(kept.step->runtime, state_->runtime, "step");
    kept.step->checkIdle("step");
    run.step = kept.step->core.get();
    const Arg pools(info, 1, "pools");
    const Arg kv = pools.field("kv");
    const Arg states = pools.field("states");
    if (!kv.isNull()) {
      kept.kv = kvPoolFrom(kv);
      run.kv = partOf(kept.kv, state_->runtime, kv).get();
    }
    if (!states.isNull()) {
      kept.states = statePoolFrom(states);
      run.states = partOf(kept.states, state_->runtime, states).get();
    }
    run.first = Arg(info, 2, "first").size();
    run.last = Arg(info, 3, "last").size();
    const IntView rows = Arg(info, 4, "logitRows").ints();
    kept.logitRows.assign(rows.data, rows.data + rows.size);
    run.logitRows = {kept.logitRows.data(), rows.size};
    return run;
  }
};

}  // namespace

void exportForwardProgram(Napi::Env env, Napi::Object exports) {
  exports.Set("ForwardProgram", ForwardProgramWrap::define(env));
}

}  // namespace guildhall::binding
