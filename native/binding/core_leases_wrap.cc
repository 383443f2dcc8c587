#include <algorithm>

#include "errors.h"
#include "guildhall/core_leases.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

constexpr int64_t kMaxFd = 0x7fffffff;

/** Holds the table for runtimes, and leases that JavaScript took itself. */
class CoreLeasesWrap final : public Handle<CoreLeasesWrap, CoreLeases> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00030};

  explicit CoreLeasesWrap(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      const auto fd = static_cast<int>(Arg(info, 0, "fd").integer(0, kMaxFd));
      state_ = std::make_shared<CoreLeases>(fd, Arg(info, 1, "most").integer(0, kMaxFd));
    });
  }

  ~CoreLeasesWrap() override {
    for (const int core : taken_) state_->give(core);
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "CoreLeases",
        {StaticValue("tableBytes", Napi::Number::New(env, static_cast<double>(CoreLeases::tableBytes()))),
         StaticMethod<&CoreLeasesWrap::format>("format"), InstanceMethod<&CoreLeasesWrap::cores>("cores"),
         InstanceMethod<&CoreLeasesWrap::holders>("holders"), InstanceMethod<&CoreLeasesWrap::tryTake>("tryTake"),
         InstanceMethod<&CoreLeasesWrap::give>("give")});
  }

 private:
  static Napi::Value format(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      CoreLeases::format(static_cast<int>(Arg(info, 0, "fd").integer(0, kMaxFd)));
      return info.Env().Undefined();
    });
  }

  static Napi::Value toArray(Napi::Env env, const std::vector<int>& values) {
    auto array = Napi::Int32Array::New(env, values.size());
    std::copy(values.begin(), values.end(), array.Data());
    return array;
  }

  Napi::Value cores(const Napi::CallbackInfo& info) { return toArray(info.Env(), state_->cores()); }
  Napi::Value holders(const Napi::CallbackInfo& info) { return toArray(info.Env(), state_->holders()); }

  Napi::Value tryTake(const Napi::CallbackInfo& info) {
    const int core = state_->tryTake(-1);
    if (core >= 0) taken_.push_back(core);
    return Napi::Number::New(info.Env(), core);
  }

  Napi::Value give(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto core = static_cast<int>(Arg(info, 0, "core").integer(0, kMaxFd));
      const auto found = std::find(taken_.begin(), taken_.end(), core);
      if (found == taken_.end()) failRange("core", std::to_string(core) + " was not taken here");
      taken_.erase(found);
      state_->give(core);
      return info.Env().Undefined();
    });
  }

  std::vector<int> taken_;
};

}  // namespace

std::shared_ptr<CoreLeases> coreLeasesFrom(const Arg& arg) { return CoreLeasesWrap::from(arg, "CoreLeases"); }

void exportCoreLeases(Napi::Env env, Napi::Object exports) { exports.Set("CoreLeases", CoreLeasesWrap::define(env)); }

}  // namespace guildhall::binding
