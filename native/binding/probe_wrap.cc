// The machine's ceilings, for the bench.

#include <cstring>
#include <memory>

#include "errors.h"
#include "guildhall/memory.h"
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

/** Memory as the backends hold weights in it (huge pages), every page of it touched. */
Napi::Value probeMemory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const int64_t size = Arg(info, 0, "size").integer(1, int64_t{1} << 40);
    auto memory = std::make_unique<Buffer>(size, MemoryKind::kBuffers, std::make_shared<MemoryLedger>());
    std::memset(memory->as<uint8_t>(), 1, static_cast<size_t>(size));
    Buffer* const held = memory.get();
    const auto free = [held](Napi::BasicEnv, void*) { delete held; };
    const auto buffer = Napi::ArrayBuffer::New(env, held->as<uint8_t>(), static_cast<size_t>(size), free);
    static_cast<void>(memory.release());
    return buffer;
  });
}

}  // namespace

void exportProbe(Napi::Env env, Napi::Object exports) {
  exports.Set("probe", Napi::Function::New<probeValue>(env, "probe"));
  exports.Set("probeMemory", Napi::Function::New<probeMemory>(env, "probeMemory"));
}

}  // namespace guildhall::binding
