#include "async.h"
#include "errors.h"
#include "guildhall/check.h"
#include "guildhall/quantise.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

Napi::Buffer<uint8_t> copyOf(Napi::Env env, const std::vector<uint8_t>& bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

Napi::Object resultOf(Napi::Env env, const QuantisedTensor& tensor, WeightFormat format, int64_t rows) {
  Napi::Object scale = Napi::Object::New(env);
  scale.Set("dtype", format == WeightFormat::kFp8 ? "F32" : "F16");
  scale.Set("data", copyOf(env, tensor.scales));
  Napi::Array shape = Napi::Array::New(env, 2);
  shape.Set(0u, static_cast<double>(rows));
  shape.Set(1u, static_cast<double>(tensor.scaleCols));
  scale.Set("shape", shape);
  Napi::Object result = Napi::Object::New(env);
  result.Set("dtype", format == WeightFormat::kQ8 ? "Q8" : format == WeightFormat::kQ4 ? "Q4" : "F8_E4M3");
  result.Set("data", copyOf(env, tensor.data));
  result.Set("scale", scale);
  return result;
}

Napi::Value quantiseTensor(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto runtime = runtimeFrom(Arg(info, 0, "runtime"));
    const Arg arg(info, 1, "source");
    const TensorSource source = arg.tensor();
    source.check("source");
    const WeightFormat format = Arg(info, 2, "format").weightFormat();
    if (format == WeightFormat::kF32 || format == WeightFormat::kBf16) failRange("format", "is not fp8, q8 or q4");
    auto result = std::make_shared<QuantisedTensor>();
    AsyncWork work;
    arg.keepTensor(work.keep);
    work.run = [runtime, source, format, result] { *result = runtime->backend().quantise(source, format); };
    work.result = [result, format, rows = source.rows()](Napi::Env env) {
      return resultOf(env, *result, format, rows);
    };
    return startWork(info.Env(), runtime, Lane::kPrefill, std::move(work));
  });
}

}  // namespace

void exportQuantise(Napi::Env env, Napi::Object exports) {
  exports.Set("quantise", Napi::Function::New<quantiseTensor>(env, "quantise"));
}

}  // namespace guildhall::binding
