#include "async.h"

#include <algorithm>
#include <utility>

#include "errors.h"

namespace guildhall::binding {

/** A job that lives from `startWork` until its completion was handled on the JavaScript thread. */
class AsyncJob final : public Job {
 public:
  /** `runtime` may be null in the background; `driver` is its own or the instance's. */
  AsyncJob(Napi::Env env, Instance& instance, std::shared_ptr<Runtime> runtime, Driver& driver, Lane lane,
           AsyncWork work)
      : completed_(instance.completed_),
        runtime_(std::move(runtime)),
        driver_(driver),
        lane_(lane),
        work_(std::move(work)),
        deferred_(Napi::Promise::Deferred::New(env)) {
    for (const Napi::Value& value : work_.keep) kept_.push_back(Napi::Persistent(value.As<Napi::Object>()));
    work_.keep.clear();
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

  void run() override {
    if (lane_ == Lane::kBackground) {
      work_.run();
    } else {
      const BackendCall call(runtime_->backend(), lane_ == Lane::kPrefill ? &runtime_->driver() : nullptr);
      work_.run();
    }
  }

  bool cancelled() const override { return work_.cancelled && work_.cancelled->load(std::memory_order_relaxed); }

  /**
   * Queues the job again, or hands it to the JavaScript thread. While the environment ends, node gives it back with a null
   * env.
   */
  void done(std::unique_ptr<Job> self, std::exception_ptr error) noexcept override {
    // Whoever takes the job over may end it at once: nothing of it is used after that.
    if (!error && work_.more && work_.more()) return driver_.submit(lane_, std::move(self));
    error_ = std::move(error);
    const napi_status status = napi_call_threadsafe_function(completed_, self.get(), napi_tsfn_nonblocking);
    if (status == napi_ok) {
      self.release();  // NOLINT: owned by the queue now
    } else {
      abandon();
    }
  }

  static void complete(napi_env rawEnv, napi_value, void* context, void* data) {
    std::unique_ptr<AsyncJob> job(static_cast<AsyncJob*>(data));
    if (rawEnv == nullptr) return job->abandon();
    const Napi::Env env(rawEnv);
    const Napi::HandleScope scope(env);
    static_cast<Instance*>(context)->endWork();
    try {
      job->settle(env);
    } catch (const Napi::Error&) {
      // A worker that is being terminated can run no JavaScript: nobody is left to tell.
    }
  }

  static void begin(Instance& instance) { instance.beginWork(); }

 private:
  void settle(Napi::Env env) {
    if (work_.settled) work_.settled();
    std::exception_ptr error = error_;
    if (!error) {
      try {
        deferred_.Resolve(work_.result ? work_.result(env) : env.Undefined());
        return;
      } catch (const Napi::Error& jsError) {
        deferred_.Reject(jsError.Value());
        return;
      } catch (...) {
        error = std::current_exception();
      }
    }
    deferred_.Reject(toJsError(env, error).Value());
  }

  /** The environment is gone: its references are too. */
  void abandon() {
    for (auto& reference : kept_) reference.SuppressDestruct();
  }

  napi_threadsafe_function completed_;
  std::shared_ptr<Runtime> runtime_;
  Driver& driver_;
  Lane lane_;
  AsyncWork work_;
  Napi::Promise::Deferred deferred_;
  std::vector<Napi::ObjectReference> kept_;
  std::exception_ptr error_;
};

Instance::Instance(Napi::Env env) : env_(env) {
  const napi_value name = Napi::String::New(env, "guildhall");
  napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                                       AsyncJob::complete, &completed_);
  if (status == napi_ok) status = napi_unref_threadsafe_function(env, completed_);
  // Registered after the function above and so run before its own clean-up.
  if (status == napi_ok) status = napi_add_env_cleanup_hook(env, stopRuntimes, this);
  if (status != napi_ok) throw Napi::Error::New(env);
}

void Instance::addRuntime(const std::shared_ptr<Runtime>& runtime) {
  runtimes_.erase(std::remove_if(runtimes_.begin(), runtimes_.end(), [](const auto& weak) { return weak.expired(); }),
                  runtimes_.end());
  runtimes_.push_back(runtime);
}

Driver& Instance::helper() {
  if (!helper_) helper_ = std::make_unique<Driver>();
  return *helper_;
}

void Instance::stopRuntimes(void* self) {
  auto* const instance = static_cast<Instance*>(self);
  for (const auto& weak : instance->runtimes_) {
    if (const auto runtime = weak.lock()) runtime->stop();
  }
  if (instance->helper_) instance->helper_->stop();
}

void Instance::beginWork() {
  if (inFlight_++ == 0) napi_ref_threadsafe_function(env_, completed_);
}

void Instance::endWork() {
  if (--inFlight_ == 0) napi_unref_threadsafe_function(env_, completed_);
}

namespace {

/** Does brief work here, if the driver is idle; says whether it did. An exception of `run` is in `error`. */
bool runBrief(Runtime& runtime, const AsyncWork& work, std::exception_ptr& error) {
  try {
    return runtime.driver().runInline([&] {
      const InlineCall call(runtime.backend());
      work.run();
    });
  } catch (...) {
    error = std::current_exception();
    return true;
  }
}

/** The promise of work that is done. */
Napi::Promise settledPromise(Napi::Env env, const AsyncWork& work, std::exception_ptr error) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  if (work.settled) work.settled();
  if (error) {
    deferred.Reject(toJsError(env, error).Value());
  } else {
    deferred.Resolve(work.result ? work.result(env) : env.Undefined());
  }
  return deferred.Promise();
}

Napi::Promise submit(Napi::Env env, const std::shared_ptr<Runtime>& runtime, Driver& driver, Lane lane,
                     AsyncWork work) {
  Instance& instance = Instance::of(env);
  auto job = std::make_unique<AsyncJob>(env, instance, runtime, driver, lane, std::move(work));
  const Napi::Promise promise = job->promise();
  AsyncJob::begin(instance);
  driver.submit(lane, std::move(job));
  return promise;
}

}  // namespace

Napi::Promise startWork(Napi::Env env, const std::shared_ptr<Runtime>& runtime, Lane lane, AsyncWork work) {
  if (work.brief) {
    std::exception_ptr error;
    if (runBrief(*runtime, work, error)) return settledPromise(env, work, error);
  }
  return submit(env, runtime, runtime->driver(), lane, std::move(work));
}

Napi::Promise startBackground(Napi::Env env, AsyncWork work) {
  return submit(env, nullptr, Instance::of(env).helper(), Lane::kBackground, std::move(work));
}

}  // namespace guildhall::binding
