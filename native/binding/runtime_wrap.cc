#include "async.h"
#include "errors.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

constexpr const char* kVersion = "0.1.0";

const char* familyName(KernelFamily family) {
  constexpr const char* kNames[] = {"f32-fma", "bf16-fma", "bf16-dot", "fp8-fma", "fp8-dot", "q8-dot", "q4-dot"};
  return kNames[static_cast<int>(family)];
}

RuntimeOptions readOptions(const Arg& arg) {
  RuntimeOptions options;
  options.threads = static_cast<int>(arg.field("threads").integer(1, 1024));
  switch (arg.field("isa").choice({"auto", "scalar", "avx2", "avx512"})) {
    case 1:
      options.isa = Isa::Scalar;
      break;
    case 2:
      options.isa = Isa::Avx2;
      break;
    case 3:
      options.isa = Isa::Avx512;
      break;
    default:
      break;
  }
  options.bf16Kernels = static_cast<Bf16Kernels>(arg.field("bf16Kernels").choice({"auto", "bf16-fma", "bf16-dot"}));
  const Arg leases = arg.field("coreLeases");
  if (!leases.isNull() && !leases.value().IsUndefined()) options.coreLeases = coreLeasesFrom(leases);
  return options;
}

Napi::Object infoObject(Napi::Env env, const BackendInfo& info) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("version", kVersion);
  object.Set("isa", isaName(info.isa));
  object.Set("bf16Kernels", info.bf16Dot ? "bf16-dot" : "bf16-fma");
  object.Set("threads", info.threads);
  Napi::Array features = Napi::Array::New(env, info.cpuFeatures.size());
  for (uint32_t i = 0; i < info.cpuFeatures.size(); ++i) features.Set(i, info.cpuFeatures[i]);
  object.Set("cpuFeatures", features);
  return object;
}

class RuntimeWrap final : public Handle<RuntimeWrap, Runtime> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00001};

  explicit RuntimeWrap(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      state_ = std::make_shared<Runtime>(readOptions(Arg(info, 0, "options")));
      Instance::of(info.Env()).addRuntime(state_);
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Runtime",
        {InstanceAccessor<&RuntimeWrap::info>("info"), InstanceMethod<&RuntimeWrap::kernelFamily>("kernelFamily"),
         InstanceMethod<&RuntimeWrap::kvKernel>("kvKernel"), InstanceMethod<&RuntimeWrap::memory>("memory"),
         InstanceMethod<&RuntimeWrap::limitPrefill>("limitPrefill"),
         InstanceMethod<&RuntimeWrap::prefillPauses>("prefillPauses")});
  }

 private:
  Napi::Value info(const Napi::CallbackInfo& info) { return infoObject(info.Env(), state_->backend().info()); }

  Napi::Value kernelFamily(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const WeightFormat format = Arg(info, 0, "format").weightFormat();
      return Napi::String::New(info.Env(), familyName(state_->backend().kernelFamily(format)));
    });
  }

  Napi::Value kvKernel(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const KvKernel kernel = state_->backend().kvKernel(Arg(info, 0, "format").kvFormat());
      return Napi::String::New(info.Env(), kernel == KvKernel::kDot ? "dot" : "fma");
    });
  }

  Napi::Value memory(const Napi::CallbackInfo& info) {
    const MemoryLedger& ledger = state_->memory();
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("weights", static_cast<double>(ledger.bytes(MemoryKind::kWeights)));
    object.Set("kv", static_cast<double>(ledger.bytes(MemoryKind::kKv)));
    object.Set("states", static_cast<double>(ledger.bytes(MemoryKind::kStates)));
    object.Set("buffers", static_cast<double>(ledger.bytes(MemoryKind::kBuffers)));
    return object;
  }

  void limitPrefill(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const Arg ms(info, 0, "ms");
      if (!ms.value().IsNumber()) ms.failType("a number");
      const double value = ms.value().As<Napi::Number>().DoubleValue();
      if (!(value >= 0)) failRange("ms", "is not a time from 0 on");
      state_->driver().limitPrefill(value, Arg(info, 1, "alternate").boolean());
    });
  }

  Napi::Value prefillPauses(const Napi::CallbackInfo& info) {
    const PrefillPauses pauses = state_->driver().prefillPauses();
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("count", static_cast<double>(pauses.count));
    object.Set("decodeJobs", static_cast<double>(pauses.decodeJobs));
    object.Set("ms", pauses.ms);
    return object;
  }
};

}  // namespace

std::shared_ptr<Runtime> runtimeFrom(const Arg& arg) { return RuntimeWrap::from(arg, "a Runtime"); }

void exportRuntime(Napi::Env env, Napi::Object exports) { exports.Set("Runtime", RuntimeWrap::define(env)); }

}  // namespace guildhall::binding
