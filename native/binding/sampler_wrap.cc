#include <cmath>

#include "async.h"
#include "errors.h"
#include "guildhall/check.h"
#include "guildhall/ops/sampler.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

constexpr int64_t kMaxVocab = int64_t{1} << 30;

struct SamplerBox {
  std::unique_ptr<Sampler> sampler;
  /** Calls of `sample` in flight. JavaScript thread only. */
  int uses = 0;
};

float floatIn(const Arg& arg, float low, float high) {
  const float value = arg.finiteFloat();
  if (!(value >= low && value <= high)) {
    failRange(arg.path(), "is outside [" + std::to_string(low) + ", " + std::to_string(high) + "]");
  }
  return value;
}

std::vector<int32_t> idsIn(const Arg& arg, int64_t vocab) {
  const IntView ids = arg.ints();
  for (int64_t i = 0; i < ids.size; ++i) checkRange(arg.path() + "[" + std::to_string(i) + "]", ids[i], 0, vocab - 1);
  return {ids.data, ids.data + ids.size};
}

std::vector<float> readBias(const Arg& arg, size_t expected) {
  const auto [values, size] = arg.floats();
  if (size != static_cast<int64_t>(expected)) {
    failRange(arg.path(), std::to_string(size) + " entries, expected " + std::to_string(expected));
  }
  for (int64_t i = 0; i < size; ++i) {
    if (!std::isfinite(values[i])) failRange(arg.path() + "[" + std::to_string(i) + "]", "is not finite");
  }
  return {values, values + size};
}

SamplerParams readParams(const Arg& arg, int64_t vocab) {
  constexpr float kLargest = 1e6f;
  SamplerParams p;
  p.temperature = floatIn(arg.field("temperature"), 0.0f, kLargest);
  p.topK = static_cast<int32_t>(arg.field("topK").integer(0, kMaxVocab));
  p.topP = floatIn(arg.field("topP"), 0.0f, 1.0f);
  if (p.topP <= 0.0f) failRange(arg.path() + ".topP", "is not above 0");
  p.minP = floatIn(arg.field("minP"), 0.0f, 1.0f);
  p.repetitionPenalty = floatIn(arg.field("repetitionPenalty"), 0.0f, kLargest);
  if (p.repetitionPenalty <= 0.0f) failRange(arg.path() + ".repetitionPenalty", "is not above 0");
  p.presencePenalty = floatIn(arg.field("presencePenalty"), -kLargest, kLargest);
  p.frequencyPenalty = floatIn(arg.field("frequencyPenalty"), -kLargest, kLargest);
  p.seed = arg.field("seed").bigUint64();
  p.choice = arg.field("choice").uint32();
  p.biasIds = idsIn(arg.field("biasIds"), vocab);
  p.biasValues = readBias(arg.field("biasValues"), p.biasIds.size());
  p.stopIds = idsIn(arg.field("stopIds"), vocab);
  p.minTokens = arg.field("minTokens").integer(0, kMaxVocab);
  p.topLogprobs = static_cast<int32_t>(arg.field("topLogprobs").integer(-1, vocab));
  return p;
}

class SamplerStateWrap final : public Handle<SamplerStateWrap, SamplerBox> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00021};

  explicit SamplerStateWrap(const Napi::CallbackInfo& info) : Handle(info) {
    guarded(info.Env(), [&] {
      const int64_t vocab = Arg(info, 0, "vocab").integer(1, kMaxVocab);
      SamplerParams params = readParams(Arg(info, 1, "params"), vocab);
      const IntView prompt = Arg(info, 2, "promptIds").ints();
      auto box = std::make_shared<SamplerBox>();
      box->sampler =
          std::make_unique<Sampler>(static_cast<int32_t>(vocab), std::move(params), prompt.data, prompt.size);
      state_ = std::move(box);
    });
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "SamplerState",
                       {InstanceMethod<&SamplerStateWrap::accept>("accept"),
                        InstanceAccessor<&SamplerStateWrap::numGenerated>("numGenerated")});
  }

 private:
  void accept(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      if (state_->uses > 0) failRange("state", "is in use by a sample that has not ended");
      state_->sampler->accept(static_cast<int32_t>(Arg(info, 0, "id").integer(0, state_->sampler->vocab() - 1)));
    });
  }
  Napi::Value numGenerated(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(state_->sampler->numGenerated()));
  }
};

Napi::Object sampleObject(Napi::Env env, const Sample& sample) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", sample.id);
  object.Set("logprob", sample.logprob);
  auto ids = Napi::Int32Array::New(env, sample.topIds.size());
  std::copy(sample.topIds.begin(), sample.topIds.end(), ids.Data());
  auto logprobs = Napi::Float32Array::New(env, sample.topLogprobs.size());
  std::copy(sample.topLogprobs.begin(), sample.topLogprobs.end(), logprobs.Data());
  object.Set("topIds", ids);
  object.Set("topLogprobs", logprobs);
  return object;
}

Napi::Value sampleArray(Napi::Env env, const std::vector<Sample>& samples) {
  Napi::Array array = Napi::Array::New(env, samples.size());
  for (uint32_t i = 0; i < samples.size(); ++i) array.Set(i, sampleObject(env, samples[i]));
  return array;
}

void checkLogitRows(const StepState& step, const IntView& rows) {
  for (int64_t i = 0; i < rows.size; ++i) {
    checkRange("rows[" + std::to_string(i) + "]", rows[i], 0, step.core->numLogitRows() - 1);
  }
}

std::vector<std::shared_ptr<SamplerBox>> readStates(const Arg& arg, int64_t expected, int64_t vocab) {
  if (!arg.value().IsArray()) arg.failType("an array");
  const auto array = arg.value().As<Napi::Array>();
  if (array.Length() != expected) {
    failRange(arg.path(), std::to_string(array.Length()) + " entries, expected " + std::to_string(expected));
  }
  std::vector<std::shared_ptr<SamplerBox>> states;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Arg entry(arg.path() + "[" + std::to_string(i) + "]", array.Get(i));
    states.push_back(SamplerStateWrap::from(entry, "a SamplerState"));
    if (states.back()->sampler->vocab() != vocab) failRange(entry.path(), "made for another vocabulary");
  }
  return states;
}

/** A mask for each row, or null; copied, since JavaScript could write to it while the sample runs. */
std::vector<std::vector<uint32_t>> readMasks(const Napi::CallbackInfo& info, size_t index, int64_t expected, int64_t vocab) {
  std::vector<std::vector<uint32_t>> masks(static_cast<size_t>(expected));
  if (index >= info.Length() || info[index].IsUndefined() || info[index].IsNull()) return masks;
  const Arg arg(info, index, "masks");
  if (!arg.value().IsArray()) arg.failType("an array");
  const auto array = arg.value().As<Napi::Array>();
  if (array.Length() != expected) {
    failRange(arg.path(), std::to_string(array.Length()) + " entries, expected " + std::to_string(expected));
  }
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value value = array.Get(i);
    if (value.IsNull()) continue;
    const Arg entry(arg.path() + "[" + std::to_string(i) + "]", value);
    const IntView words = entry.ints();
    if (words.size != allowedWords(vocab)) {
      failRange(entry.path(),
                std::to_string(words.size) + " words, expected " + std::to_string(allowedWords(vocab)));
    }
    masks[i].resize(static_cast<size_t>(words.size));
    std::copy(words.data, words.data + words.size, masks[i].begin());
  }
  return masks;
}

Napi::Value sample(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto step = stepFrom(Arg(info, 0, "step"));
    step->checkIdle("step");
    const IntView rows = Arg(info, 1, "rows").ints();
    checkLogitRows(*step, rows);
    auto states = readStates(Arg(info, 2, "states"), rows.size, step->core->options().vocab);
    const Lane lane = laneOf(Arg(info, 3, "lane"));
    auto masks = readMasks(info, 4, rows.size, step->core->options().vocab);
    std::vector<SampleRequest> requests;
    for (int64_t i = 0; i < rows.size; ++i) {
      const auto at = static_cast<size_t>(i);
      requests.push_back({rows[i], states[at]->sampler.get(), std::move(masks[at])});
    }

    auto samples = std::make_shared<std::vector<Sample>>();
    AsyncWork work;
    work.run = [step, requests = std::move(requests), samples] {
      *samples = step->runtime->backend().sample(*step->core, requests);
    };
    work.result = [samples](Napi::Env env) { return sampleArray(env, *samples); };
    step->busy = true;
    for (const auto& state : states) ++state->uses;
    work.settled = [step, states = std::move(states)] {
      step->busy = false;
      for (const auto& state : states) --state->uses;
    };
    return startWork(info.Env(), step->runtime, lane, std::move(work));
  });
}

Napi::Value logprobs(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto step = stepFrom(Arg(info, 0, "step"));
    step->checkIdle("step");
    const IntView rows = Arg(info, 1, "rows").ints();
    const IntView ids = Arg(info, 2, "ids").ints();
    const int64_t vocab = step->core->options().vocab;
    checkLogitRows(*step, rows);
    if (ids.size != rows.size)
      failRange("ids", std::to_string(ids.size) + " entries, expected " + std::to_string(rows.size));
    for (int64_t i = 0; i < ids.size; ++i) checkRange("ids[" + std::to_string(i) + "]", ids[i], 0, vocab - 1);
    const auto top = static_cast<int32_t>(Arg(info, 3, "top").integer(0, vocab));
    return sampleArray(info.Env(), step->runtime->backend().logprobs(*step->core, rows, ids, top));
  });
}

}  // namespace

void exportSampler(Napi::Env env, Napi::Object exports) {
  exports.Set("SamplerState", SamplerStateWrap::define(env));
  exports.Set("sample", Napi::Function::New<sample>(env, "sample"));
  exports.Set("logprobs", Napi::Function::New<logprobs>(env, "logprobs"));
}

}  // namespace guildhall::binding
