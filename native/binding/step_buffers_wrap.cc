#include <cstring>
#include <tuple>

#include "async.h"
#include "errors.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

constexpr int64_t kTraceparentBytes = 55;
/** Values that a combine may read to be called brief: some 15 µs of one core. */
constexpr int64_t kBriefCombine = 1 << 17;

StepBuffersOptions readOptions(const Arg& arg) {
  StepBuffersOptions options;
  options.maxTokens = arg.field("maxTokens").size();
  options.hidden = arg.field("hidden").size();
  options.numExperts = arg.field("numExperts").size();
  options.topK = arg.field("topK").size();
  options.rowFormat = arg.field("rowFormat").rowFormat();
  options.maxLogitRows = arg.field("maxLogitRows").size();
  options.vocab = arg.field("vocab").size();
  return options;
}

BatchSpec readBatch(const Arg& arg) {
  BatchSpec spec;
  spec.tokenIds = arg.field("tokenIds").ints();
  spec.positions = arg.field("positions").ints();
  spec.rowStart = arg.field("rowStart").ints();
  spec.rowCount = arg.field("rowCount").ints();
  spec.contextLen = arg.field("contextLen").ints();
  spec.stateSlot = arg.field("stateSlot").ints();
  spec.initState = arg.field("initState").ints();
  spec.snapshotSlot = arg.field("snapshotSlot").ints();
  spec.snapshotRows = arg.field("snapshotRows").ints();
  spec.mode = arg.field("mode").ints();
  spec.pageTable = arg.field("pageTable").ints();
  spec.maxPages = arg.field("maxPages").size();
  return spec;
}

/** `traceparent` receives the bytes that the frame borrows. */
ForwardFrame readHeader(const Arg& arg, std::string& traceparent) {
  ForwardFrame frame;
  frame.key.routerIncarnation = arg.field("routerIncarnation").bigUint64();
  frame.key.step = arg.field("step").uint32();
  frame.key.layer = arg.field("layer").uint32();
  frame.key.microBatch = arg.field("microBatch").uint32();
  frame.key.attempt = arg.field("attempt").uint32();
  frame.key.part = arg.field("part").uint32();
  frame.epoch = arg.field("epoch").uint32();
  frame.combineMode = arg.field("combineMode").combineMode();
  const Arg trace = arg.field("traceparent");
  if (trace.isNull()) return frame;
  traceparent = trace.string();
  if (static_cast<int64_t>(traceparent.size()) != kTraceparentBytes) {
    failRange(trace.path(), std::to_string(traceparent.size()) + " bytes, expected 55");
  }
  frame.traceparent = {reinterpret_cast<const uint8_t*>(traceparent.data()), kTraceparentBytes};
  return frame;
}

/** A typed array over native memory that lives as long as the array or the step. */
template <typename Array, typename T>
Array viewOf(Napi::Env env, const std::shared_ptr<StepBuffers>& core, T* data, int64_t count) {
  auto* const keep = new std::shared_ptr<StepBuffers>(core);
  const auto release = [](Napi::BasicEnv, void*, std::shared_ptr<StepBuffers>* kept) { delete kept; };
  const auto bytes = static_cast<size_t>(count) * sizeof(T);
  return Array::New(env, static_cast<size_t>(count), Napi::ArrayBuffer::New(env, data, bytes, release, keep), 0);
}

class StepBuffersWrap final : public Handle<StepBuffersWrap, StepState> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00004};

  explicit StepBuffersWrap(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      auto state = std::make_shared<StepState>();
      state->runtime = runtimeFrom(Arg(info, 0, "runtime"));
      state->core = state->runtime->backend().createStepBuffers(readOptions(Arg(info, 1, "options")));
      state_ = std::move(state);
      defineViews(info);
      const StepBuffersOptions& o = step().options();
      reportMemory(info.Env(), o.maxTokens * (o.hidden * 12 + (o.topK + 1) * step().rowBytes()));
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "StepBuffers",
        {InstanceAccessor<&StepBuffersWrap::maxTokens>("maxTokens"),
         InstanceAccessor<&StepBuffersWrap::numTokens>("numTokens"),
         InstanceMethod<&StepBuffersWrap::setBatch>("setBatch"),
         InstanceMethod<&StepBuffersWrap::cancel>("cancel"), InstanceMethod<&StepBuffersWrap::hidden>("hidden"),
         InstanceMethod<&StepBuffersWrap::setHidden>("setHidden"), InstanceMethod<&StepBuffersWrap::rows>("rows"),
         InstanceMethod<&StepBuffersWrap::packForward>("packForward"),
         InstanceMethod<&StepBuffersWrap::beginCombine>("beginCombine"),
         InstanceMethod<&StepBuffersWrap::unpackReply>("unpackReply"),
         InstanceMethod<&StepBuffersWrap::missing>("missing"), InstanceMethod<&StepBuffersWrap::combine>("combine")});
  }

 private:
  StepBuffers& step() const { return *state_->core; }

  /** topkIds, topkWeights and logits are made once, so that reading them costs nothing. */
  void defineViews(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const StepBuffersOptions& o = step().options();
    const int64_t slots = o.maxTokens * o.topK;
    Napi::Object self = info.This().As<Napi::Object>();
    const auto define = [&](const char* name, Napi::Value value) {
      self.DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_enumerable));
    };
    define("topkIds", viewOf<Napi::Int32Array>(env, state_->core, step().topkIds(), slots));
    define("topkWeights", viewOf<Napi::Float32Array>(env, state_->core, step().topkWeights(), slots));
    define("logits", viewOf<Napi::Float32Array>(env, state_->core, step().logits(), o.maxLogitRows * o.vocab));
  }

  Napi::Value maxTokens(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(step().options().maxTokens));
  }

  Napi::Value numTokens(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(step().numTokens()));
  }

  void setBatch(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      state_->checkIdle("step");
      step().setBatch(readBatch(Arg(info, 0, "spec")));
      state_->cancelled->store(false);
    });
  }

  void cancel(const Napi::CallbackInfo&) {
    state_->cancelled->store(true);
    state_->runtime->driver().recheck();
  }

  Napi::Value hidden(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      state_->checkIdle("step");
      const int64_t count = step().numTokens() * step().options().hidden;
      auto copy = Napi::Float32Array::New(info.Env(), static_cast<size_t>(count));
      if (count > 0) step().readHidden(copy.Data());
      return copy;
    });
  }

  void setHidden(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      state_->checkIdle("step");
      const auto [rows, size] = Arg(info, 0, "rows").floats();
      const int64_t expected = step().numTokens() * step().options().hidden;
      if (size != expected) failRange("rows", std::to_string(size) + " entries, expected " + std::to_string(expected));
      if (size > 0) step().writeHidden(rows);
    });
  }

  Napi::Value rows(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      state_->checkIdle("step");
      return Napi::Buffer<uint8_t>::Copy(info.Env(), step().rows(),
                                         static_cast<size_t>(step().numTokens() * step().rowBytes()));
    });
  }

  Napi::Value packForward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      std::string traceparent;
      const ForwardFrame header = readHeader(Arg(info, 0, "header"), traceparent);
      DispatchRows rows;
      rows.rowIndex = Arg(info, 1, "rowIndex").ints();
      rows.entryCount = Arg(info, 2, "entryCount").ints();
      rows.experts = Arg(info, 3, "experts").ints();
      std::tie(rows.weights, rows.numWeights) = Arg(info, 4, "weights").floats();
      const int64_t bytes = step().forwardBytes(header, rows);
      auto buffer = Napi::Buffer<uint8_t>::New(info.Env(), static_cast<size_t>(bytes));
      step().packForward(header, rows, buffer.Data());
      return buffer;
    });
  }

  void beginCombine(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { step().beginCombine(); });
  }

  void unpackReply(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      step().unpackReply(Arg(info, 0, "reply").bytes(), Arg(info, 1, "slots").ints(), Arg(info, 2, "entryCount").ints(),
                         Arg(info, 3, "mode").combineMode());
    });
  }

  Napi::Value missing(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(step().missing()));
  }

  Napi::Value combine(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const Lane lane = laneOf(Arg(info, 0, "lane"));
      checkCombine(step());
      const StepBuffersOptions& o = state_->core->options();
      const bool brief = state_->core->numTokens() * (o.topK + 2) * o.hidden <= kBriefCombine;
      return startOnStep(
          info.Env(), state_, lane, [state = state_] { state->runtime->backend().combine(*state->core); }, brief);
    });
  }
};

}  // namespace

std::shared_ptr<StepState> stepFrom(const Arg& arg) { return StepBuffersWrap::from(arg, "a StepBuffers"); }

Napi::Promise startOnStep(Napi::Env env, const std::shared_ptr<StepState>& step, Lane lane, std::function<void()> run,
                          bool brief) {
  step->checkIdle("step");
  AsyncWork work;
  work.run = std::move(run);
  work.brief = brief;
  work.cancelled = step->cancelled;
  work.settled = [step] { step->busy = false; };
  step->busy = true;
  return startWork(env, step->runtime, lane, std::move(work));
}

void exportStepBuffers(Napi::Env env, Napi::Object exports) {
  exports.Set("StepBuffers", StepBuffersWrap::define(env));
}

}  // namespace guildhall::binding
