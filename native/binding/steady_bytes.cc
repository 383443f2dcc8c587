#include "steady_bytes.h"

#include <algorithm>
#include <memory>

#include "async.h"
#include "errors.h"
#include "guildhall/crc32c.h"
#include "handles.h"

namespace guildhall::binding {

ByteView steadyBytes(const Arg& arg) {
  const ByteView bytes = arg.bytes();
  const Napi::Object buffer = arg.value().As<Napi::TypedArray>().ArrayBuffer();
  if (buffer.Get("resizable").ToBoolean()) failRange(arg.path(), "is of a resizable buffer");
  return bytes;
}

std::vector<ByteView> steadyParts(const Arg& arg, std::vector<Napi::Value>& keep) {
  if (!arg.value().IsArray()) arg.failType("an array");
  const auto array = arg.value().As<Napi::Array>();
  std::vector<ByteView> parts;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Arg part(arg.path() + "[" + std::to_string(i) + "]", array.Get(i));
    parts.push_back(steadyBytes(part));
    keep.push_back(part.value());
  }
  return parts;
}

void checkBytes(const std::string& path, ByteView bytes, int64_t expected) {
  if (bytes.size == expected) return;
  failRange(path, std::to_string(bytes.size) + " bytes, expected " + std::to_string(expected));
}

namespace {

Napi::Value crc32cOfParts(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    AsyncWork work;
    std::vector<ByteView> parts = steadyParts(Arg(info, 0, "parts"), work.keep);
    const auto sums = std::make_shared<std::vector<uint32_t>>(parts.size());
    work.run = [parts = std::move(parts), sums] {
      for (size_t i = 0; i < parts.size(); ++i) (*sums)[i] = crc32c(parts[i].data, parts[i].size);
    };
    work.result = [sums](Napi::Env env) -> Napi::Value {
      auto result = Napi::Uint32Array::New(env, sums->size());
      std::copy(sums->begin(), sums->end(), result.Data());
      return result;
    };
    return startBackground(info.Env(), std::move(work));
  });
}

}  // namespace

void exportCrc32c(Napi::Env env, Napi::Object exports) {
  exports.Set("crc32c", Napi::Function::New<crc32cOfParts>(env, "crc32c"));
}

}  // namespace guildhall::binding
