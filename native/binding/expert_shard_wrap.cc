#include "async.h"
#include "errors.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

/** Frames up to this are copied: cheaper than tracking external memory. */
constexpr int64_t kCopyBytes = 4096;
/** Multiplications of a forward that is called brief: some 10 µs of one core with vectors. */
constexpr int64_t kBriefProducts = 1 << 18;

/** Whether a frame asks for so little that it is done at once. What cannot be read is refused soon enough. */
bool isBrief(const ExpertShardOptions& options, Isa isa, ByteView bytes) {
  if (isa == Isa::Scalar) return false;
  const int64_t products = 3 * options.hidden * options.intermediate;
  // No fewer entries than rows (of four bytes a value at most): most frames are too large at first sight.
  if (bytes.size / (4 * options.hidden) * products > kBriefProducts) return false;
  try {
    ForwardFrame frame;
    parseForward(bytes, frame);
    return frame.experts.size / 2 * products <= kBriefProducts;
  } catch (const BadFrame&) {
    return true;
  }
}

ExpertShardOptions readOptions(const Arg& arg) {
  ExpertShardOptions options;
  options.numLayers = arg.field("numLayers").size();
  options.numExperts = arg.field("numExperts").size();
  options.hidden = arg.field("hidden").size();
  options.intermediate = arg.field("intermediate").size();
  options.format = arg.field("format").weightFormat();
  options.rowFormat = arg.field("rowFormat").rowFormat();
  return options;
}

class ExpertShardWrap final : public Handle<ExpertShardWrap, Owned<ExpertShard>> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00020};

  explicit ExpertShardWrap(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      const auto runtime = runtimeFrom(Arg(info, 0, "runtime"));
      auto core = runtime->backend().createExpertShard(readOptions(Arg(info, 1, "options")));
      state_ = std::make_shared<Owned<ExpertShard>>(Owned<ExpertShard>{runtime, std::move(core)});
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "ExpertShard",
        {InstanceAccessor<&ExpertShardWrap::expertBytes>("expertBytes"), InstanceMethod<&ExpertShardWrap::load>("load"),
         InstanceMethod<&ExpertShardWrap::loadAll>("loadAll"), InstanceMethod<&ExpertShardWrap::unload>("unload"), InstanceMethod<&ExpertShardWrap::has>("has"),
         InstanceMethod<&ExpertShardWrap::held>("held"), InstanceMethod<&ExpertShardWrap::forward>("forward")});
  }

 private:
  ExpertShard& shard() const { return *state_->core; }
  int64_t layerOf(const Napi::CallbackInfo& info) const {
    return Arg(info, 0, "layer").integer(0, shard().options().numLayers - 1);
  }
  int64_t expertOf(const Napi::CallbackInfo& info) const {
    return Arg(info, 1, "expert").integer(0, shard().options().numExperts - 1);
  }

  Napi::Value expertBytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(shard().expertBytes()));
  }

  Napi::Value load(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t layer = layerOf(info);
      const int64_t expert = expertOf(info);
      const Arg gate(info, 2, "gate");
      const Arg up(info, 3, "up");
      const Arg down(info, 4, "down");
      const ExpertWeights weights{gate.tensor(), up.tensor(), down.tensor()};
      shard().checkLoad(layer, expert, weights);
      AsyncWork work;
      for (const Arg* arg : {&gate, &up, &down}) arg->keepTensor(work.keep);
      work.run = [self = state_, layer, expert, weights] { self->core->load(layer, expert, weights); };
      return startWork(info.Env(), state_->runtime, Lane::kBackground, std::move(work));
    });
  }

  Napi::Value loadAll(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t layer = layerOf(info);
      const Arg list(info, 1, "experts");
      if (!list.value().IsArray()) list.failType("an array");
      const auto array = list.value().As<Napi::Array>();
      AsyncWork work;
      std::vector<ExpertLoad> loads;
      for (uint32_t i = 0; i < array.Length(); ++i) {
        loads.push_back(readLoad(layer, Arg(list.path() + "[" + std::to_string(i) + "]", array.Get(i)), work.keep));
      }
      work.run = [self = state_, layer, loads = std::move(loads)] { self->core->loadAll(layer, loads); };
      return startWork(info.Env(), state_->runtime, Lane::kBackground, std::move(work));
    });
  }

  ExpertLoad readLoad(int64_t layer, const Arg& arg, std::vector<Napi::Value>& keep) const {
    ExpertLoad load;
    load.expert = arg.field("expert").integer(0, shard().options().numExperts - 1);
    const Arg gate = arg.field("gate");
    const Arg up = arg.field("up");
    const Arg down = arg.field("down");
    load.weights = {gate.tensor(), up.tensor(), down.tensor()};
    shard().checkLoad(layer, load.expert, load.weights, arg.path() + ".");
    for (const Arg* tensor : {&gate, &up, &down}) tensor->keepTensor(keep);
    return load;
  }

  Napi::Value unload(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t layer = layerOf(info);
      return Napi::Boolean::New(info.Env(), shard().unload(layer, expertOf(info)));
    });
  }

  Napi::Value has(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t layer = layerOf(info);
      return Napi::Boolean::New(info.Env(), shard().has(layer, expertOf(info)));
    });
  }

  Napi::Value held(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const std::vector<int32_t> experts = shard().held(layerOf(info));
      auto array = Napi::Int32Array::New(info.Env(), experts.size());
      std::copy(experts.begin(), experts.end(), array.Data());
      return array;
    });
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const Arg frame(info, 0, "frame");
      const ByteView bytes = frame.bytes();
      const uint32_t queueUs = Arg(info, 1, "queueUs").uint32();
      const Lane lane = laneOf(Arg(info, 2, "lane"));
      auto reply = std::make_shared<OwnedFrame>();
      AsyncWork work;
      work.keep.push_back(frame.value());
      work.brief = isBrief(shard().options(), state_->runtime->backend().info().isa, bytes);
      work.run = [self = state_, bytes, queueUs, reply] { *reply = self->core->forward(bytes, queueUs); };
      work.result = [reply](Napi::Env env) -> Napi::Value { return toBuffer(env, std::move(*reply)); };
      return startWork(info.Env(), state_->runtime, lane, std::move(work));
    });
  }
};

}  // namespace

std::shared_ptr<Owned<ExpertShard>> expertShardFrom(const Arg& arg) {
  return ExpertShardWrap::from(arg, "an ExpertShard");
}

Napi::Buffer<uint8_t> toBuffer(Napi::Env env, OwnedFrame frame) {
  if (frame.size <= kCopyBytes)
    return Napi::Buffer<uint8_t>::Copy(env, frame.data.get(), static_cast<size_t>(frame.size));
  uint8_t* const data = frame.data.get();
  const auto size = static_cast<size_t>(frame.size);
  auto buffer = Napi::Buffer<uint8_t>::New(env, data, size, [](Napi::BasicEnv, uint8_t* bytes) { delete[] bytes; });
  frame.data.release();  // NOLINT: owned by the buffer now
  return buffer;
}

void exportExpertShard(Napi::Env env, Napi::Object exports) {
  exports.Set("ExpertShard", ExpertShardWrap::define(env));
}

}  // namespace guildhall::binding
