#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include <napi.h>

#include "guildhall/runtime.h"

namespace guildhall::binding {

/**
 * State of one environment (main thread or worker thread): the function through which native threads report finished
 * work, and the runtimes made here, which are stopped when the environment ends.
 */
class Instance {
 public:
  explicit Instance(Napi::Env env);
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  static Instance& of(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

  void addRuntime(const std::shared_ptr<Runtime>& runtime);
  /** For work without a runtime; made at its first use. */
  Driver& helper();

 private:
  friend class AsyncJob;

  static void stopRuntimes(void* self);
  void beginWork();
  void endWork();

  Napi::Env env_;
  napi_threadsafe_function completed_ = nullptr;
  /** Jobs whose promise is pending; the event loop is kept alive while there are any. */
  int64_t inFlight_ = 0;
  std::vector<std::weak_ptr<Runtime>> runtimes_;
  std::unique_ptr<Driver> helper_;
};

/** Work for a native thread and what to do with it on the JavaScript thread. */
struct AsyncWork {
  /** On the native thread. Handles that it uses are captured as shared pointers. */
  std::function<void()> run;
  /** After `run`, on the native thread: whether it is called again, as a new job behind what waits then. May be null. */
  std::function<bool()> more;
  /** On the JavaScript thread after success: the promise's value. Undefined when null. */
  std::function<Napi::Value(Napi::Env)> result;
  /** On the JavaScript thread, after success and failure. May be null. */
  std::function<void()> settled;
  /**
   * The work is so short (20 µs at most) that the hop to the driver and back costs more: it is done at once, on the
   * JavaScript thread, if the driver has nothing to do.
   */
  bool brief = false;
  /** Set when nobody wants the result any more. May be null. */
  std::shared_ptr<const std::atomic<bool>> cancelled;
  /** JavaScript values whose memory `run` reads. */
  std::vector<Napi::Value> keep;
};

/** Queues work and returns its promise; an exception of `run` rejects it with code NATIVE_FAILURE. */
Napi::Promise startWork(Napi::Env env, const std::shared_ptr<Runtime>& runtime, Lane lane, AsyncWork work);
/** The same for background work that needs no runtime. */
Napi::Promise startBackground(Napi::Env env, AsyncWork work);

}  // namespace guildhall::binding
