// MoeGate and SharedExpert.

#include "block_wrap.h"

namespace guildhall::binding {

namespace {

class MoeGateWrap final : public BlockWrap<MoeGateWrap, MoeGate> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00013};
  static constexpr const char* kName = "MoeGate";
  using BlockWrap::BlockWrap;

  static std::shared_ptr<MoeGate> create(Backend& backend, const Napi::CallbackInfo& info) {
    const Arg arg(info, 1, "spec");
    MoeGateSpec spec;
    spec.hidden = arg.field("hidden").size();
    spec.numExperts = arg.field("numExperts").size();
    spec.topK = arg.field("topK").size();
    spec.normTopk = arg.field("normTopk").boolean();
    spec.norm = readNorm(arg.field("norm"));
    spec.format = arg.field("format").weightFormat();
    const Arg weights(info, 2, "weights");
    return backend.createMoeGate(spec, {weights.field("norm").tensor(), weights.field("gate").tensor()});
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto step = stepArg(info);
      const Lane lane = laneOf(Arg(info, 1, "lane"));
      state_->core->check(*step->core);
      return startOnStep(info.Env(), step, lane, [self = state_, step] { self->core->forward(*step->core); });
    });
  }
};

class SharedExpertWrap final : public BlockWrap<SharedExpertWrap, SharedExpert> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00014};
  static constexpr const char* kName = "SharedExpert";
  using BlockWrap::BlockWrap;

  static std::shared_ptr<SharedExpert> create(Backend& backend, const Napi::CallbackInfo& info) {
    const Arg arg(info, 1, "spec");
    SharedExpertSpec spec;
    spec.hidden = arg.field("hidden").size();
    spec.intermediate = arg.field("intermediate").size();
    spec.format = arg.field("format").weightFormat();
    const Arg weights(info, 2, "weights");
    return backend.createSharedExpert(spec, {weights.field("gate").tensor(), weights.field("up").tensor(),
                                             weights.field("down").tensor(), weights.field("sharedGate").tensor()});
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto step = stepArg(info);
      const Lane lane = laneOf(Arg(info, 1, "lane"));
      state_->core->check(*step->core);
      return startOnStep(info.Env(), step, lane, [self = state_, step] { self->core->forward(*step->core); });
    });
  }
};

}  // namespace

std::shared_ptr<Owned<MoeGate>> moeGateFrom(const Arg& arg) { return MoeGateWrap::from(arg, "a MoeGate"); }
std::shared_ptr<Owned<SharedExpert>> sharedExpertFrom(const Arg& arg) {
  return SharedExpertWrap::from(arg, "a SharedExpert");
}

void exportMoe(Napi::Env env, Napi::Object exports) {
  exports.Set("MoeGate", MoeGateWrap::define(env));
  exports.Set("SharedExpert", SharedExpertWrap::define(env));
}

}  // namespace guildhall::binding
