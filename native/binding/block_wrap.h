#pragma once

#include <memory>

#include "errors.h"
#include "handles.h"

namespace guildhall::binding {

inline NormSpec readNorm(const Arg& arg) {
  NormSpec spec;
  spec.eps = arg.field("eps").finiteFloat();
  spec.zeroCentered = arg.field("zeroCentered").boolean();
  return spec;
}

/** Class of a block: a constructor (runtime, …) through `Derived::create`, and `Derived::forward(step, …, lane)`. */
template <typename Derived, typename Block>
class BlockWrap : public Handle<Derived, Owned<Block>> {
 public:
  explicit BlockWrap(const Napi::CallbackInfo& info) : Handle<Derived, Owned<Block>>(info) {
    guarded(info.Env(), [&] {
      const auto runtime = runtimeFrom(Arg(info, 0, "runtime"));
      const int64_t before = runtime->memory().bytes(MemoryKind::kWeights);
      auto core = Derived::create(runtime->backend(), info);
      this->state_ = std::make_shared<Owned<Block>>(Owned<Block>{runtime, std::move(core)});
      this->reportMemory(info.Env(), runtime->memory().bytes(MemoryKind::kWeights) - before);
    });
  }

  static Napi::Function define(Napi::Env env) {
    return Napi::ObjectWrap<Derived>::DefineClass(
        env, Derived::kName, {Napi::ObjectWrap<Derived>::template InstanceMethod<&Derived::forward>("forward")});
  }

 protected:
  /** Argument 0: an idle step of this block's runtime. */
  std::shared_ptr<StepState> stepArg(const Napi::CallbackInfo& info) const {
    auto step = stepFrom(Arg(info, 0, "step"));
    checkSameRuntime(step->runtime, this->state_->runtime, "step");
    step->checkIdle("step");
    return step;
  }
};

}  // namespace guildhall::binding
