#include <cstring>

#include "errors.h"
#include "guildhall/check.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

KvPoolOptions readKvOptions(const Arg& arg) {
  KvPoolOptions options;
  options.numPages = arg.field("numPages").size();
  options.numLayers = arg.field("numLayers").size();
  options.numKvHeads = arg.field("numKvHeads").size();
  options.headDim = arg.field("headDim").size();
  options.format = arg.field("format").kvFormat();
  return options;
}

StatePoolOptions readStateOptions(const Arg& arg) {
  StatePoolOptions options;
  options.numSlots = arg.field("numSlots").size();
  options.numLayers = arg.field("numLayers").size();
  options.numValueHeads = arg.field("numValueHeads").size();
  options.keyHeadDim = arg.field("keyHeadDim").size();
  options.valueHeadDim = arg.field("valueHeadDim").size();
  options.convDim = arg.field("convDim").size();
  options.convKernel = arg.field("convKernel").size();
  return options;
}

/** `data` must be exactly one page or slot. */
ByteView exactBytes(const Arg& arg, int64_t expected) {
  const ByteView bytes = arg.bytes();
  if (bytes.size != expected) {
    failRange(arg.path(), std::to_string(bytes.size) + " bytes, expected " + std::to_string(expected));
  }
  return bytes;
}

class KvPoolWrap final : public Handle<KvPoolWrap, Owned<KvPool>> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00002};

  explicit KvPoolWrap(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      const auto runtime = runtimeFrom(Arg(info, 0, "runtime"));
      auto core = runtime->backend().createKvPool(readKvOptions(Arg(info, 1, "options")));
      state_ = std::make_shared<Owned<KvPool>>(Owned<KvPool>{runtime, std::move(core)});
      reportMemory(info.Env(), pool().options().numPages * pool().pageBytes());
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "KvPool",
        {InstanceAccessor<&KvPoolWrap::numPages>("numPages"), InstanceAccessor<&KvPoolWrap::pageBytes>("pageBytes"),
         InstanceMethod<&KvPoolWrap::copyPages>("copyPages"), InstanceMethod<&KvPoolWrap::exportPage>("exportPage"),
         InstanceMethod<&KvPoolWrap::importPage>("importPage")});
  }

 private:
  KvPool& pool() const { return *state_->core; }
  int64_t pageOf(const Arg& arg) const { return arg.integer(0, pool().options().numPages - 1); }

  Napi::Value numPages(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(pool().options().numPages));
  }
  Napi::Value pageBytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(pool().pageBytes()));
  }

  void copyPages(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const IntView from = Arg(info, 0, "from").ints();
      const IntView to = Arg(info, 1, "to").ints();
      if (from.size != to.size)
        failRange("to", std::to_string(to.size) + " entries, expected " + std::to_string(from.size));
      const int64_t last = pool().options().numPages - 1;
      for (int64_t i = 0; i < from.size; ++i) {
        checkRange("from[" + std::to_string(i) + "]", from[i], 0, last);
        checkRange("to[" + std::to_string(i) + "]", to[i], 0, last);
      }
      for (int64_t i = 0; i < from.size; ++i) pool().copyPage(from[i], to[i]);
    });
  }

  Napi::Value exportPage(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t page = pageOf(Arg(info, 0, "page"));
      auto out = Napi::Buffer<uint8_t>::New(info.Env(), static_cast<size_t>(pool().pageBytes()));
      pool().readPage(page, out.Data());
      return out;
    });
  }

  void importPage(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const int64_t page = pageOf(Arg(info, 0, "page"));
      const ByteView data = exactBytes(Arg(info, 1, "data"), pool().pageBytes());
      pool().writePage(page, data.data);
    });
  }
};

class StatePoolWrap final : public Handle<StatePoolWrap, Owned<StatePool>> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00003};

  explicit StatePoolWrap(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      const auto runtime = runtimeFrom(Arg(info, 0, "runtime"));
      auto core = runtime->backend().createStatePool(readStateOptions(Arg(info, 1, "options")));
      state_ = std::make_shared<Owned<StatePool>>(Owned<StatePool>{runtime, std::move(core)});
      reportMemory(info.Env(), pool().options().numSlots * pool().slotBytes());
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "StatePool",
        {InstanceAccessor<&StatePoolWrap::numSlots>("numSlots"),
         InstanceAccessor<&StatePoolWrap::slotBytes>("slotBytes"), InstanceMethod<&StatePoolWrap::reset>("reset"),
         InstanceMethod<&StatePoolWrap::copy>("copy"), InstanceMethod<&StatePoolWrap::exportSlot>("exportSlot"),
         InstanceMethod<&StatePoolWrap::importSlot>("importSlot")});
  }

 private:
  StatePool& pool() const { return *state_->core; }
  int64_t slotOf(const Arg& arg) const { return arg.integer(0, pool().options().numSlots - 1); }

  Napi::Value numSlots(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(pool().options().numSlots));
  }
  Napi::Value slotBytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(pool().slotBytes()));
  }
  void reset(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { pool().reset(slotOf(Arg(info, 0, "slot"))); });
  }
  void copy(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const int64_t from = slotOf(Arg(info, 0, "from"));
      pool().copy(from, slotOf(Arg(info, 1, "to")));
    });
  }
  Napi::Value exportSlot(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t slot = slotOf(Arg(info, 0, "slot"));
      auto out = Napi::Buffer<uint8_t>::New(info.Env(), static_cast<size_t>(pool().slotBytes()));
      pool().readSlot(slot, out.Data());
      return out;
    });
  }
  void importSlot(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const int64_t slot = slotOf(Arg(info, 0, "slot"));
      const ByteView data = exactBytes(Arg(info, 1, "data"), pool().slotBytes());
      pool().writeSlot(slot, data.data);
    });
  }
};

}  // namespace

std::shared_ptr<Owned<KvPool>> kvPoolFrom(const Arg& arg) { return KvPoolWrap::from(arg, "a KvPool"); }
std::shared_ptr<Owned<StatePool>> statePoolFrom(const Arg& arg) { return StatePoolWrap::from(arg, "a StatePool"); }

void exportPools(Napi::Env env, Napi::Object exports) {
  exports.Set("KvPool", KvPoolWrap::define(env));
  exports.Set("StatePool", StatePoolWrap::define(env));
}

}  // namespace guildhall::binding
