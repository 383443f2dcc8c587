// The machine's ceilings, for the bench.

#include "errors.h"
#include "guildhall/probe.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

Napi::Value probeValue(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    constexpr ProbeKind kinds[] = {ProbeKind::kRead, ProbeKind::kFma, ProbeKind::kBf16, ProbeKind::kVnni};
    const ProbeKind kind = kinds[Arg(info, 0, "kind").choice({"read", "fma", "bf16", "vnni"})];
    const int64_t threads = Arg(info, 1, "threads").size();
    const int64_t milliseconds = Arg(info, 2, "milliseconds").size();
    const Arg data(info, 3, "data");
    if (kind == ProbeKind::kRead || !data.isNull()) {
      const ByteView bytes = data.bytes();
      return Napi::Number::New(env, probe(kind, threads, milliseconds, bytes.data, static_cast<int64_t>(bytes.size)));
    }
    return Napi::Number::New(env, probe(kind, threads, milliseconds, nullptr, 0));
  });
}

}  // namespace

void exportProbe(Napi::Env env, Napi::Object exports) {
  exports.Set("probe", Napi::Function::New<probeValue>(env, "probe"));
}

}  // namespace guildhall::binding
