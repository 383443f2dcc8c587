#include "async.h"
#include "errors.h"
#include "guildhall/check.h"
#include "guildhall/transfers.h"
#include "handles.h"
#include "steady_bytes.h"

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

/** Entries of an array that are all pages of a pool. */
std::vector<int32_t> pagesOf(const Arg& arg, const KvPool& pool) {
  const IntView pages = arg.ints();
  for (int64_t i = 0; i < pages.size; ++i) {
    checkRange(arg.path() + "[" + std::to_string(i) + "]", pages[i], 0, pool.options().numPages - 1);
  }
  return {pages.data, pages.data + pages.size};
}

Napi::Value pageResult(Napi::Env env, std::vector<PoolCopy>& copies) {
  auto parts = Napi::Array::New(env, copies.size());
  auto checksums = Napi::Uint32Array::New(env, copies.size());
  for (size_t i = 0; i < copies.size(); ++i) {
    parts.Set(static_cast<uint32_t>(i), toBuffer(env, std::move(copies[i].bytes)));
    checksums[i] = copies[i].checksum;
  }
  auto result = Napi::Object::New(env);
  result.Set("parts", parts);
  result.Set("checksums", checksums);
  return result;
}

/** Runs the steps of an import, each a job of its own. */
template <typename Import>
Napi::Promise startImport(Napi::Env env, const std::shared_ptr<Runtime>& runtime, Import import,
                          std::vector<Napi::Value> keep) {
  struct Progress {
    Import import;
    bool more = false;
  };
  const auto progress = std::make_shared<Progress>(Progress{std::move(import)});
  AsyncWork work;
  work.keep = std::move(keep);
  work.run = [progress] { progress->more = progress->import.step(); };
  work.more = [progress] { return progress->more; };
  // On the prefill lane each job would wait for a whole step of somebody else's long prompt.
  return startWork(env, runtime, Lane::kDecode, std::move(work));
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
         InstanceMethod<&KvPoolWrap::copyPages>("copyPages"), InstanceMethod<&KvPoolWrap::exportPages>("exportPages"),
         InstanceMethod<&KvPoolWrap::importPages>("importPages")});
  }

 private:
  KvPool& pool() const { return *state_->core; }

  Napi::Value numPages(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(pool().options().numPages));
  }
  Napi::Value pageBytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(pool().pageBytes()));
  }

  void copyPages(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const std::vector<int32_t> from = pagesOf(Arg(info, 0, "from"), pool());
      const std::vector<int32_t> to = pagesOf(Arg(info, 1, "to"), pool());
      if (from.size() != to.size())
        failRange("to", std::to_string(to.size()) + " entries, expected " + std::to_string(from.size()));
      for (size_t i = 0; i < from.size(); ++i) pool().copyPage(from[i], to[i]);
    });
  }

  Napi::Value exportPages(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      std::vector<int32_t> pages = pagesOf(Arg(info, 0, "pages"), pool());
      const int64_t group = Arg(info, 1, "group").integer(1, kMaxCount);
      if (static_cast<int64_t>(pages.size()) % group != 0) {
        failRange("pages", std::to_string(pages.size()) + " entries, expected a multiple of " + std::to_string(group));
      }
      const auto copies = std::make_shared<std::vector<PoolCopy>>();
      AsyncWork work;
      work.run = [self = state_, pages = std::move(pages), group, copies] {
        *copies = guildhall::exportPages(*self->core, pages, group);
      };
      work.result = [copies](Napi::Env env) { return pageResult(env, *copies); };
      return startWork(info.Env(), state_->runtime, Lane::kBackground, std::move(work));
    });
  }

  Napi::Value importPages(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      std::vector<int32_t> pages = pagesOf(Arg(info, 0, "pages"), pool());
      std::vector<Napi::Value> keep;
      std::vector<ByteView> parts = steadyParts(Arg(info, 1, "parts"), keep);
      const size_t group = parts.empty() ? 0 : pages.size() / parts.size();
      if (group * parts.size() != pages.size() || (group == 0 && !parts.empty())) {
        failRange("parts", std::to_string(parts.size()) + " entries for " + std::to_string(pages.size()) + " pages");
      }
      for (size_t i = 0; i < parts.size(); ++i) {
        checkBytes("parts[" + std::to_string(i) + "]", parts[i], static_cast<int64_t>(group) * pool().pageBytes());
      }
      return startImport(info.Env(), state_->runtime, PageImport(state_->core, std::move(pages), std::move(parts)),
                         std::move(keep));
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
         InstanceMethod<&StatePoolWrap::copy>("copy"), InstanceMethod<&StatePoolWrap::exportState>("exportState"),
         InstanceMethod<&StatePoolWrap::importState>("importState")});
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
  Napi::Value exportState(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t slot = slotOf(Arg(info, 0, "slot"));
      const auto copy = std::make_shared<PoolCopy>();
      AsyncWork work;
      work.run = [self = state_, slot, copy] { *copy = guildhall::exportState(*self->core, slot); };
      work.result = [copy](Napi::Env env) -> Napi::Value {
        auto result = Napi::Object::New(env);
        result.Set("data", toBuffer(env, std::move(copy->bytes)));
        result.Set("checksum", Napi::Number::New(env, copy->checksum));
        return result;
      };
      return startWork(info.Env(), state_->runtime, Lane::kBackground, std::move(work));
    });
  }
  Napi::Value importState(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t slot = slotOf(Arg(info, 0, "slot"));
      const Arg data(info, 1, "data");
      const ByteView bytes = steadyBytes(data);
      checkBytes(data.path(), bytes, pool().slotBytes());
      return startImport(info.Env(), state_->runtime, StateImport(state_->core, slot, bytes), {data.value()});
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
