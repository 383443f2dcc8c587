// Whole layers in one call against the same blocks one by one with messages to the shard: the same bits, on every
// instruction set, any number of threads, any batch and any cut between layers.

#include "cpp/fixture.h"
#include "guildhall/program.h"
#include "guildhall/runtime.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

/** Sizes of one variant of the model of `ProgramModel`. */
struct Shape {
  int64_t hidden = 52;
  int64_t experts = 9;
  int64_t topK = 3;
  int64_t intermediate = 20;
  /** 0: no shared expert. */
  int64_t shared = 28;
};

constexpr int64_t kLayers = 3;
constexpr int64_t kMaxTokens = 200;

/** Three layers, DeltaNet and attention in turn, each with its own experts. */
class ProgramModel {
 public:
  ProgramModel(const RuntimeOptions& options, WeightFormat format, const Shape& shape)
      : shape_(shape),
        backend_(testedBackend().create(options, std::make_shared<MemoryLedger>())),
        weights_(23, format == WeightFormat::kF32 ? Dtype::kF32 : Dtype::kBf16) {
    const RowFormat rows = format == WeightFormat::kF32 ? RowFormat::kF32 : RowFormat::kBf16;
    GatedDeltaNetSpec gdn = deltaNetSpec(format);
    GatedAttentionSpec att = attentionSpec(format);
    gdn.hidden = att.hidden = shape.hidden;
    step = backend_->createStepBuffers({kMaxTokens, shape.hidden, shape.experts, shape.topK, rows, 8, kVocab});
    states_ = backend_->createStatePool(
        {6, 2, gdn.numValueHeads, gdn.keyHeadDim, gdn.valueHeadDim, gdn.convDim(), gdn.convKernel});
    const KvFormat pages = rows == RowFormat::kF32 ? KvFormat::kF32 : KvFormat::kBf16;
    kv_ = backend_->createKvPool({24, 1, att.numKvHeads, att.headDim, pages});
    Weights& w = weights_;
    embedding_ = backend_->createEmbedding(w.matrix(kVocab, shape.hidden), format);
    head_ = backend_->createLmHead({shape.hidden, kVocab, 70, {1e-6f, true}, format},
                                   {w.vector(shape.hidden, 0), w.matrix(kVocab, shape.hidden)});
    shard = backend_->createExpertShard(
        {kLayers, shape.experts, shape.hidden, shape.intermediate, format, rows});
    for (int64_t l = 0; l < kLayers; ++l) {
      gdn.stateLayer = l / 2;
      layers_.push_back(makeLayer(l, gdn, att, format));
    }
    program = std::make_unique<ForwardProgram>(*backend_, embedding_, layers_, head_, shard);
  }

  /** Hidden rows and logits of the last row of each sequence, by the program cut at `cuts`. */
  Floats byProgram(const std::vector<Sequence>& sequences, const std::vector<int64_t>& cuts) {
    begin(sequences);
    ProgramRun run = makeRun();
    for (const int64_t cut : cuts) {
      run.last = cut;
      program->check(run);
      call([&] { program->forward(run); });
      run.first = cut;
    }
    return result();
  }

  Floats byMessages(const std::vector<Sequence>& sequences) {
    begin(sequences);
    call([&] { embedding_->forward(*step); });
    for (int64_t l = 0; l < kLayers; ++l) {
      const ProgramLayer& layer = layers_[static_cast<size_t>(l)];
      call([&] { layer.deltaNet ? layer.deltaNet->forward(*step, *states_) : layer.attention->forward(*step, *kv_); });
      call([&] { layer.gate->forward(*step); });
      if (layer.shared) call([&] { layer.shared->forward(*step); });
      exchange(l);
      call([&] { backend_->combine(*step); });
    }
    call([&] { head_->forward(*step, logitRows()); });
    return result();
  }

  ProgramRun makeRun() { return {step.get(), states_.get(), kv_.get(), 0, kLayers, logitRows()}; }
  void begin(const std::vector<Sequence>& sequences) {
    for (int64_t slot = 0; slot < 6; ++slot) states_->reset(slot);
    const BatchArrays arrays(sequences);
    step->setBatch(arrays.spec());
    last_.clear();
    for (size_t i = 0; i < sequences.size(); ++i) last_.push_back(arrays.rowStart[i] + arrays.rowCount[i] - 1);
  }

  template <typename Body>
  void call(Body body) {
    const BackendCall bracket(*backend_);
    body();
  }

  std::shared_ptr<StepBuffers> step;
  std::shared_ptr<ExpertShard> shard;
  std::unique_ptr<ForwardProgram> program;

 private:
  ProgramLayer makeLayer(int64_t index, const GatedDeltaNetSpec& gdn, const GatedAttentionSpec& att,
                         WeightFormat format) {
    Weights& w = weights_;
    const int64_t hidden = shape_.hidden;
    ProgramLayer layer;
    if (index % 2 == 0) {
      layer.deltaNet = backend_->createGatedDeltaNet(
          gdn, {w.vector(hidden, 0), w.matrix(gdn.convDim(), hidden), w.matrix(gdn.valueDim(), hidden),
                w.matrix(4, hidden), w.matrix(4, hidden), w.matrix(gdn.convDim(), 4), w.vector(4, 1), w.vector(4, 0.5f),
                w.vector(20, 1), w.matrix(hidden, gdn.valueDim())});
    } else {
      layer.attention = backend_->createGatedAttention(
          att, {w.vector(hidden, 0), w.matrix(2 * 4 * 24, hidden), w.matrix(2 * 24, hidden), w.matrix(2 * 24, hidden),
                w.matrix(hidden, 4 * 24), w.vector(24, 0), w.vector(24, 0)});
    }
    layer.gate = backend_->createMoeGate({hidden, shape_.experts, shape_.topK, true, {1e-6f, true}, format},
                                         {w.vector(hidden, 0), w.matrix(shape_.experts, hidden)});
    if (shape_.shared > 0) {
      layer.shared = backend_->createSharedExpert(
          {hidden, shape_.shared, format}, {w.matrix(shape_.shared, hidden), w.matrix(shape_.shared, hidden),
                                            w.matrix(hidden, shape_.shared), w.matrix(1, hidden)});
    }
    std::vector<ExpertLoad> loads;
    for (int64_t e = 0; e < shape_.experts; ++e) {
      loads.push_back({e, {w.matrix(shape_.intermediate, hidden), w.matrix(shape_.intermediate, hidden),
                           w.matrix(hidden, shape_.intermediate)}});
    }
    shard->loadAll(index, loads);
    return layer;
  }

  IntView logitRows() const { return {last_.data(), static_cast<int64_t>(last_.size())}; }

  Floats result() const {
    Floats out(step->hidden(), step->hidden() + step->numTokens() * shape_.hidden);
    out.insert(out.end(), step->logits(), step->logits() + static_cast<int64_t>(last_.size()) * kVocab);
    return out;
  }

  /** Every row of the step with its experts through one message. */
  void exchange(int64_t layer) {
    const int64_t topK = shape_.topK;
    std::vector<int32_t> rowIndex, counts, experts, slots;
    Floats gateWeights;
    for (int64_t t = 0; t < step->numTokens(); ++t) {
      std::vector<std::pair<int32_t, int32_t>> entries;
      for (int64_t slot = t * topK; slot < (t + 1) * topK; ++slot)
        entries.emplace_back(step->topkIds()[slot], static_cast<int32_t>(slot));
      std::sort(entries.begin(), entries.end());
      rowIndex.push_back(static_cast<int32_t>(t));
      counts.push_back(static_cast<int32_t>(topK));
      for (const auto& [expert, slot] : entries) {
        experts.push_back(expert);
        slots.push_back(slot);
        gateWeights.push_back(step->topkWeights()[slot]);
      }
    }
    const auto view = [](const std::vector<int32_t>& v) { return IntView{v.data(), static_cast<int64_t>(v.size())}; };
    ForwardFrame header;
    header.combineMode = CombineMode::kExact;
    header.key.layer = static_cast<uint32_t>(layer);
    const DispatchRows rows{view(rowIndex), view(counts), view(experts), gateWeights.data(),
                            static_cast<int64_t>(gateWeights.size())};
    std::vector<uint8_t> frame(static_cast<size_t>(step->forwardBytes(header, rows)));
    step->packForward(header, rows, frame.data());
    step->beginCombine();
    OwnedFrame reply;
    call([&] { reply = shard->forward({frame.data(), static_cast<int64_t>(frame.size())}, 0); });
    step->unpackReply({reply.data.get(), reply.size}, view(slots), view(counts), CombineMode::kExact);
  }

  Shape shape_;
  std::unique_ptr<Backend> backend_;
  std::shared_ptr<StatePool> states_;
  std::shared_ptr<KvPool> kv_;
  std::shared_ptr<Embedding> embedding_;
  std::shared_ptr<LmHead> head_;
  std::vector<ProgramLayer> layers_;
  std::vector<int32_t> last_;
  Weights weights_;
};

std::vector<int32_t> tokens(int64_t n, int32_t seed) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<int32_t>((i * i * 3 + i * 11 + seed * 17) % 70));
  return out;
}

const std::vector<std::vector<Sequence>> kBatches = {
    {{tokens(1, 2), 0, 1, 1, {6}}},
    {{tokens(67, 1), 0, 0, 0, {3, 4}}, {tokens(1, 2), 0, 1, 1, {6}}, {tokens(90, 4), 0, 3, 0, {8, 9}}}};

void checkShape(const Shape& shape, WeightFormat format, Bf16Kernels kernels) {
  for (const std::vector<Sequence>& batch : kBatches) {
    Floats expected;
    for (const Isa isa : {Isa::Scalar, Isa::Avx2, Isa::Avx512}) {
      if (!isaSupported(isa) || (kernels == Bf16Kernels::kDot && isa != Isa::Avx512)) continue;
      for (const int threads : {1, 3}) {
        ProgramModel model({threads, isa, kernels}, format, shape);
        if (expected.empty()) expected = model.byMessages(batch);
        CHECK_SAME_BITS(model.byMessages(batch), expected, isaName(isa));
        CHECK_SAME_BITS(model.byProgram(batch, {kLayers}), expected, isaName(isa));
        CHECK_SAME_BITS(model.byProgram(batch, {1, 2, kLayers}), expected, "layer by layer");
      }
    }
  }
}

void checkFormats(const Shape& shape) {
  checkShape(shape, WeightFormat::kF32, Bf16Kernels::kAuto);
  checkShape(shape, WeightFormat::kBf16, Bf16Kernels::kFma);
  if (isaSupported(Isa::Avx512) && __builtin_cpu_supports("avx512bf16"))
    checkShape(shape, WeightFormat::kBf16, Bf16Kernels::kDot);
}

void checkErrors() {
  ProgramModel model({1, std::nullopt, Bf16Kernels::kAuto}, WeightFormat::kF32, {});
  ProgramRun run = model.makeRun();
  CHECK_STARTS(invalidMessage([&] { model.program->check(run); }), "step: no batch is set");
  model.begin(kBatches[0]);
  run = model.makeRun();
  model.program->check(run);
  const auto bend = [&](const char* message, auto change) {
    ProgramRun bent = run;
    change(bent);
    CHECK_STARTS(invalidMessage([&] { model.program->check(bent); }), message);
  };
  bend("first: -1", [](ProgramRun& r) { r.first = -1; });
  bend("last: 4", [](ProgramRun& r) { r.last = 4; });
  bend("last: 1", [](ProgramRun& r) { r.first = r.last = 1; });
  bend("states", [](ProgramRun& r) { r.states = nullptr; });
  bend("kv", [](ProgramRun& r) { r.kv = nullptr; });
  const std::vector<int32_t> far = {7};
  bend("rowIndex[0]", [&](ProgramRun& r) { r.logitRows = {far.data(), 1}; });

  for (int64_t e = 0; e < 9; ++e) model.shard->unload(1, e);
  std::string what;
  try {
    model.call([&] { model.program->forward(run); });
  } catch (const std::runtime_error& error) {
    what = error.what();
  }
  CHECK_MSG(what.find("of layer 1 is not held") != std::string::npos, what);
}

}  // namespace

int main() {
  checkFormats({});
  checkFormats({33, 5, 1, 7, 0});
  checkFormats({64, 4, 4, 32, 16});
  checkErrors();
  return 0;
}
