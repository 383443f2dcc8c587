#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include <napi.h>

#include "args.h"
#include "guildhall/error.h"
#include "guildhall/runtime.h"

namespace guildhall::binding {

/**
 * Base of the classes that JavaScript sees. `Derived::kTag` tells its objects from others; `State` is what native work
 * may share after the JavaScript object is gone.
 */
template <typename Derived, typename State>
class Handle : public Napi::ObjectWrap<Derived> {
 public:
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Derived>(info) {
    info.This().template As<Napi::Object>().TypeTag(&Derived::kTag);
  }

  void Finalize(Napi::BasicEnv env) override { reportMemory(env, -reported_); }

  /** State of an argument that must be one of these objects. */
  static std::shared_ptr<State> from(const Arg& arg, const char* className) {
    if (!arg.value().IsObject() || !arg.value().As<Napi::Object>().CheckTypeTag(&Derived::kTag))
      arg.failType(className);
    auto state = Napi::ObjectWrap<Derived>::Unwrap(arg.value().As<Napi::Object>())->state_;
    if (!state) arg.failType(className);
    return state;
  }

 protected:
  /** Tells the collector about memory that this object holds. */
  void reportMemory(Napi::BasicEnv env, int64_t change) {
    int64_t total = 0;
    if (change != 0) napi_adjust_external_memory(env, change, &total);
    reported_ += change;
  }

  std::shared_ptr<State> state_;

 private:
  int64_t reported_ = 0;
};

/** A native object and the runtime that it belongs to. */
template <typename Core>
struct Owned {
  std::shared_ptr<Runtime> runtime;
  std::shared_ptr<Core> core;
};

/** A step, with a mark while a forward works on it. JavaScript thread only. */
struct StepState : Owned<StepBuffers> {
  bool busy = false;
  /** Nobody wants what the batch is for any more. Read by native threads. */
  std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);

  /** Throws while a forward is in flight. */
  void checkIdle(const std::string& path) const {
    if (busy) failRange(path, "is in use by a forward that has not ended");
  }
};

/** Handles of two runtimes do not mix. */
inline void checkSameRuntime(const std::shared_ptr<Runtime>& a, const std::shared_ptr<Runtime>& b,
                             const std::string& path) {
  if (a != b) failRange(path, "belongs to another runtime");
}

inline Lane laneOf(const Arg& arg) { return arg.choice({"decode", "prefill"}) == 0 ? Lane::kDecode : Lane::kPrefill; }

std::shared_ptr<Runtime> runtimeFrom(const Arg& arg);
std::shared_ptr<CoreLeases> coreLeasesFrom(const Arg& arg);
std::shared_ptr<StepState> stepFrom(const Arg& arg);
std::shared_ptr<Owned<KvPool>> kvPoolFrom(const Arg& arg);
std::shared_ptr<Owned<StatePool>> statePoolFrom(const Arg& arg);
std::shared_ptr<Owned<Embedding>> embeddingFrom(const Arg& arg);
std::shared_ptr<Owned<GatedDeltaNet>> deltaNetFrom(const Arg& arg);
std::shared_ptr<Owned<GatedAttention>> attentionFrom(const Arg& arg);
std::shared_ptr<Owned<MoeGate>> moeGateFrom(const Arg& arg);
std::shared_ptr<Owned<SharedExpert>> sharedExpertFrom(const Arg& arg);
std::shared_ptr<Owned<ExpertShard>> expertShardFrom(const Arg& arg);
std::shared_ptr<Owned<LmHead>> lmHeadFrom(const Arg& arg);

/** Takes over a frame's memory; small ones are copied into node's pool. */
Napi::Buffer<uint8_t> toBuffer(Napi::Env env, OwnedFrame frame);

/** Queues work on a step, which is busy until it ends. */
Napi::Promise startOnStep(Napi::Env env, const std::shared_ptr<StepState>& step, Lane lane, std::function<void()> run,
                          bool brief = false);

// Each adds its classes and functions to the exports, in the order of native.ts.
void exportCoreLeases(Napi::Env env, Napi::Object exports);
void exportRuntime(Napi::Env env, Napi::Object exports);
void exportMapFile(Napi::Env env, Napi::Object exports);
void exportProbe(Napi::Env env, Napi::Object exports);
void exportPools(Napi::Env env, Napi::Object exports);
void exportStepBuffers(Napi::Env env, Napi::Object exports);
void exportEmbedding(Napi::Env env, Napi::Object exports);
void exportGatedDeltaNet(Napi::Env env, Napi::Object exports);
void exportGatedAttention(Napi::Env env, Napi::Object exports);
void exportMoe(Napi::Env env, Napi::Object exports);
void exportExpertShard(Napi::Env env, Napi::Object exports);
void exportLmHead(Napi::Env env, Napi::Object exports);
void exportForwardProgram(Napi::Env env, Napi::Object exports);
void exportSampler(Napi::Env env, Napi::Object exports);
void exportFrames(Napi::Env env, Napi::Object exports);
void exportQuantise(Napi::Env env, Napi::Object exports);
void exportCrc32c(Napi::Env env, Napi::Object exports);

}  // namespace guildhall::binding
