// Embedding and LmHead.

#include <vector>

#include "async.h"
#include "block_wrap.h"

namespace guildhall::binding {

namespace {

class EmbeddingWrap final : public BlockWrap<EmbeddingWrap, Embedding> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00010};
  static constexpr const char* kName = "Embedding";
  using BlockWrap::BlockWrap;

  static std::shared_ptr<Embedding> create(Backend& backend, const Napi::CallbackInfo& info) {
    const TensorSource table = Arg(info, 1, "table").tensor();
    return backend.createEmbedding(table, Arg(info, 2, "format").weightFormat());
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto step = stepArg(info);
      const Lane lane = laneOf(Arg(info, 1, "lane"));
      state_->core->check(*step->core);
      return startOnStep(info.Env(), step, lane, [self = state_, step] { self->core->forward(*step->core); });
    });
  }
};

class LmHeadWrap final : public BlockWrap<LmHeadWrap, LmHead> {
 public:
  static constexpr napi_type_tag kTag{0x3c1d7a52e0b94f01, 0x9a4be66f21d00015};
  static constexpr const char* kName = "LmHead";
  using BlockWrap::BlockWrap;

  static std::shared_ptr<LmHead> create(Backend& backend, const Napi::CallbackInfo& info) {
    const Arg arg(info, 1, "spec");
    LmHeadSpec spec;
    spec.hidden = arg.field("hidden").size();
    spec.vocab = arg.field("vocab").size();
    spec.tokenizerSize = arg.field("tokenizerSize").size();
    spec.norm = readNorm(arg.field("norm"));
    spec.format = arg.field("format").weightFormat();
    const Arg weights(info, 2, "weights");
    return backend.createLmHead(spec, {weights.field("norm").tensor(), weights.field("head").tensor()});
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto step = stepArg(info);
      const IntView rows = Arg(info, 1, "rowIndex").ints();
      const Lane lane = laneOf(Arg(info, 2, "lane"));
      state_->core->check(*step->core, rows);
      std::vector<int32_t> copy(rows.data, rows.data + rows.size);
      return startOnStep(info.Env(), step, lane, [self = state_, step, copy = std::move(copy)] {
        self->core->forward(*step->core, {copy.data(), static_cast<int64_t>(copy.size())});
      });
    });
  }
};

}  // namespace

std::shared_ptr<Owned<Embedding>> embeddingFrom(const Arg& arg) { return EmbeddingWrap::from(arg, "an Embedding"); }
std::shared_ptr<Owned<LmHead>> lmHeadFrom(const Arg& arg) { return LmHeadWrap::from(arg, "an LmHead"); }

void exportEmbedding(Napi::Env env, Napi::Object exports) { exports.Set("Embedding", EmbeddingWrap::define(env)); }
void exportLmHead(Napi::Env env, Napi::Object exports) { exports.Set("LmHead", LmHeadWrap::define(env)); }

}  // namespace guildhall::binding
