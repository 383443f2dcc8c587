#include <algorithm>

#include "errors.h"
#include "guildhall/expert_shard.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

constexpr int64_t kTraceparentBytes = 55;

/** Reads a frame argument; what is not one is the caller's mistake. */
template <typename Frame>
Frame readFrame(const Arg& arg, void (*parse)(ByteView, Frame&)) {
  Frame frame;
  try {
    parse(arg.bytes(), frame);
  } catch (const BadFrame& error) {
    failRange(arg.path(), error.what());
  }
  return frame;
}

Napi::Object keyObject(Napi::Env env, const FrameKey& key) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("routerIncarnation", Napi::BigInt::New(env, key.routerIncarnation));
  object.Set("step", key.step);
  object.Set("layer", key.layer);
  object.Set("microBatch", key.microBatch);
  object.Set("attempt", key.attempt);
  object.Set("part", key.part);
  return object;
}

/** Null unless it has the length and the characters of one. */
Napi::Value traceparentValue(Napi::Env env, const ByteView& view) {
  const bool plausible = view.size == kTraceparentBytes &&
                         std::all_of(view.data, view.data + view.size, [](uint8_t c) { return c > 0x20 && c < 0x7f; });
  if (!plausible) return env.Null();
  return Napi::String::New(env, reinterpret_cast<const char*>(view.data), static_cast<size_t>(view.size));
}

Napi::Value parseReplyHeader(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto reply = readFrame<ReplyFrame>(Arg(info, 0, "frame"), parseReply);
    Napi::Object object = keyObject(env, reply.key);
    object.Set("status", static_cast<int32_t>(reply.status));
    object.Set("numRows", reply.numRows);
    object.Set("computeUs", reply.computeUs);
    object.Set("queueUs", reply.queueUs);
    if (reply.notHeld.size % 2 != 0) failRange("frame", "not_held has an odd length");
    auto notHeld = Napi::Int32Array::New(env, static_cast<size_t>(reply.notHeld.size / 2));
    for (int64_t i = 0; i < reply.notHeld.size / 2; ++i) notHeld[static_cast<size_t>(i)] = readU16(reply.notHeld, i);
    object.Set("notHeld", notHeld);
    object.Set("error", reply.error.size == 0 ? Napi::String::New(env, "")
                                              : Napi::String::New(env, reinterpret_cast<const char*>(reply.error.data),
                                                                  static_cast<size_t>(reply.error.size)));
    return object;
  });
}

Napi::Value parseForwardHeader(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto forward = readFrame<ForwardFrame>(Arg(info, 0, "frame"), parseForward);
    Napi::Object object = keyObject(env, forward.key);
    object.Set("numRows", forward.numRows);
    object.Set("numEntries", static_cast<double>(forward.experts.size / 2));
    object.Set("epoch", forward.epoch);
    object.Set("combineMode", static_cast<int32_t>(forward.combineMode));
    object.Set("traceparent", traceparentValue(env, forward.traceparent));
    return object;
  });
}

Napi::Value packStatusReply(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const ByteView request = Arg(info, 0, "request").bytes();
    const auto status = static_cast<ReplyStatus>(Arg(info, 1, "status").integer(2, 5));
    return toBuffer(info.Env(), statusReply(request, status, Arg(info, 2, "error").string()));
  });
}

}  // namespace

void exportFrames(Napi::Env env, Napi::Object exports) {
  exports.Set("parseReplyHeader", Napi::Function::New<parseReplyHeader>(env, "parseReplyHeader"));
  exports.Set("parseForwardHeader", Napi::Function::New<parseForwardHeader>(env, "parseForwardHeader"));
  exports.Set("packStatusReply", Napi::Function::New<packStatusReply>(env, "packStatusReply"));
}

}  // namespace guildhall::binding
