// GatedDeltaNet and GatedAttention.

#include "async.h"
#include "block_wrap.h"
#include "errors.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

GatedDeltaNetSpec readDeltaNetSpec(const Arg& arg) {
  GatedDeltaNetSpec spec;
  spec.hidden = arg.field("hidden").size();
  spec.numKeyHeads = arg.field("numKeyHeads").size();
  spec.numValueHeads = arg.field("numValueHeads").size();
  spec.keyHeadDim = arg.field("keyHeadDim").size();
  spec.valueHeadDim = arg.field("valueHeadDim").size();
  spec.convKernel = arg.field("convKernel").size();
  spec.inputNorm = readNorm(arg.field("inputNorm"));
  spec.outputEps = arg.field("outputEps").finiteFloat();
  spec.format = arg.field("format").weightFormat();
  spec.stateLayer = arg.field("stateLayer").size();
  return spec;
}

GatedDeltaNetWeights readDeltaNetWeights(const Arg& arg) {
  GatedDeltaNetWeights w;
  w.inputNorm = arg.field("inputNorm").tensor();
  w.inProjQkv = arg.field("inProjQkv").tensor();
  w.inProjZ = arg.field("inProjZ").tensor();
  w.inProjB = arg.field("inProjB").tensor();
  w.inProjA = arg.field("inProjA").tensor();
  w.conv = arg.field("conv").tensor();
  w.dtBias = arg.field("dtBias").tensor();
  w.aLog = arg.field("aLog").tensor();
  w.norm = arg.field("norm").tensor();
  w.outProj = arg.field("outProj").tensor();
  return w;
}

GatedAttentionSpec readAttentionSpec(const Arg& arg) {
  GatedAttentionSpec spec;
  spec.hidden = arg.field("hidden").size();
  spec.numHeads = arg.field("numHeads").size();
  spec.numKvHeads = arg.field("numKvHeads").size();
  spec.headDim = arg.field("headDim").size();
  spec.rotaryDim = arg.field("rotaryDim").size();
  const auto [freqs, numFreqs] = arg.field("invFreq").floats();
  spec.invFreq.assign(freqs, freqs + numFreqs);
  const IntView axes = arg.field("freqAxis").ints();
  spec.freqAxis.assign(axes.data, axes.data + axes.size);
  spec.ropeScale = arg.field("ropeScale").finiteFloat();
  spec.outputGate = arg.field("outputGate").boolean();
  spec.inputNorm = readNorm(arg.field("inputNorm"));
  spec.qkNorm = readNorm(arg.field("qkNorm"));
  spec.format = arg.field("format").weightFormat();
  spec.kvLayer = arg.field("kvLayer").size();
  return spec;
}

GatedAttentionWeights readAttentionWeights(const Arg& arg) {
  GatedAttentionWeights w;
  w.inputNorm = arg.field("inputNorm").tensor();
  w.qProj = arg.field("qProj").tensor();
  w.kProj = arg.field("kProj").tensor();
  w.vProj = arg.field("vProj").tensor();
  w.oProj = arg.field("oProj").tensor();
  w.qNorm = arg.field("qNorm").tensor();
  w.kNorm = arg.field("kNorm").tensor();
  return w;
}

class GatedDeltaNetWrap final : public BlockWrap<GatedDeltaNetWrap, GatedDeltaNet> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00011};
  static constexpr const char* kName = "GatedDeltaNet";
  using BlockWrap::BlockWrap;

  static std::shared_ptr<GatedDeltaNet> create(Backend& backend, const Napi::CallbackInfo& info) {
    return backend.createGatedDeltaNet(readDeltaNetSpec(Arg(info, 1, "spec")),
                                       readDeltaNetWeights(Arg(info, 2, "weights")));
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto step = stepArg(info);
      const auto states = statePoolFrom(Arg(info, 1, "states"));
      const Lane lane = laneOf(Arg(info, 2, "lane"));
      checkSameRuntime(states->runtime, state_->runtime, "states");
      state_->core->check(*step->core, *states->core);
      return startOnStep(info.Env(), step, lane,
                         [self = state_, step, states] { self->core->forward(*step->core, *states->core); });
    });
  }
};

class GatedAttentionWrap final : public BlockWrap<GatedAttentionWrap, GatedAttention> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00012};
  static constexpr const char* kName = "GatedAttention";
  using BlockWrap::BlockWrap;

  static std::shared_ptr<GatedAttention> create(Backend& backend, const Napi::CallbackInfo& info) {
    return backend.createGatedAttention(readAttentionSpec(Arg(info, 1, "spec")),
                                        readAttentionWeights(Arg(info, 2, "weights")));
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto step = stepArg(info);
      const auto kv = kvPoolFrom(Arg(info, 1, "kv"));
      const Lane lane = laneOf(Arg(info, 2, "lane"));
      checkSameRuntime(kv->runtime, state_->runtime, "kv");
      state_->core->check(*step->core, *kv->core);
      return startOnStep(info.Env(), step, lane,
                         [self = state_, step, kv] { self->core->forward(*step->core, *kv->core); });
    });
  }
};

}  // namespace

std::shared_ptr<Owned<GatedDeltaNet>> deltaNetFrom(const Arg& arg) {
  return GatedDeltaNetWrap::from(arg, "a GatedDeltaNet");
}
std::shared_ptr<Owned<GatedAttention>> attentionFrom(const Arg& arg) {
  return GatedAttentionWrap::from(arg, "a GatedAttention");
}

void exportGatedDeltaNet(Napi::Env env, Napi::Object exports) {
  exports.Set("GatedDeltaNet", GatedDeltaNetWrap::define(env));
}
void exportGatedAttention(Napi::Env env, Napi::Object exports) {
  exports.Set("GatedAttention", GatedAttentionWrap::define(env));
}

}  // namespace guildhall::binding
