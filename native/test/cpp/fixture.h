#pragma once

// A small hybrid model over the backend interface: one DeltaNet layer, one attention layer, one expert layer.

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "guildhall/backend.h"
#include "guildhall/bf16.h"
#include "guildhall/check.h"
#include "ops/check.h"

namespace guildhall::test {

constexpr int64_t kHidden = 52;
constexpr int64_t kVocab = 75;
constexpr int64_t kExperts = 9;
constexpr int64_t kTopK = 3;
constexpr int64_t kIntermediate = 20;

/** Owns values behind sources. */
class Weights {
 public:
  Weights(uint64_t seed, Dtype dtype) : random_(seed), dtype_(dtype) {}

  TensorSource matrix(int64_t rows, int64_t cols) {
    return add(random_.normals(rows * cols, 1.0f / std::sqrt(static_cast<float>(cols))), rows, cols, dtype_);
  }
  TensorSource vector(int64_t n, float around) {
    Floats values = random_.normals(n, 0.1f);
    for (float& v : values) v += around;
    return add(values, n, 1, Dtype::kF32);
  }

 private:
  TensorSource add(const Floats& values, int64_t rows, int64_t cols, Dtype dtype) {
    std::vector<uint8_t> bytes;
    for (const float v : values) {
      const Bf16 narrow = floatToBf16(v);
      const auto* const p =
          dtype == Dtype::kF32 ? reinterpret_cast<const uint8_t*>(&v) : reinterpret_cast<const uint8_t*>(&narrow);
      bytes.insert(bytes.end(), p, p + dtypeRowBytes(dtype, 1));
    }
    stored_.push_back(std::make_unique<std::vector<uint8_t>>(std::move(bytes)));
    TensorSource source;
    source.dtype = dtype;
    source.sourceRows = rows;
    source.cols = cols;
    source.data = stored_.back()->data();
    source.dataBytes = static_cast<int64_t>(stored_.back()->size());
    return source;
  }

  Random random_;
  Dtype dtype_;
  std::vector<std::unique_ptr<std::vector<uint8_t>>> stored_;
};

struct Sequence {
  std::vector<int32_t> tokens;
  int32_t contextLen = 0;
  int32_t slot = 0;
  int32_t mode = 0;
  std::vector<int32_t> pages;
  int32_t init = -1;
  int32_t snapshotSlot = -1;
  int32_t snapshotRows = 0;
};

/** Arrays of a BatchSpec. */
struct BatchArrays {
  explicit BatchArrays(const std::vector<Sequence>& sequences) {
    for (const Sequence& s : sequences) maxPages = std::max(maxPages, static_cast<int64_t>(s.pages.size()));
    for (const Sequence& s : sequences) {
      rowStart.push_back(static_cast<int32_t>(tokens.size()));
      rowCount.push_back(static_cast<int32_t>(s.tokens.size()));
      contextLen.push_back(s.contextLen);
      slot.push_back(s.slot);
      init.push_back(s.init);
      snapshotSlot.push_back(s.snapshotSlot);
      snapshotRows.push_back(s.snapshotRows);
      mode.push_back(s.mode);
      tokens.insert(tokens.end(), s.tokens.begin(), s.tokens.end());
      for (size_t i = 0; i < s.tokens.size(); ++i) positions.push_back(s.contextLen + static_cast<int32_t>(i));
      for (int64_t p = 0; p < maxPages; ++p) {
        pages.push_back(p < static_cast<int64_t>(s.pages.size()) ? s.pages[static_cast<size_t>(p)] : 0);
      }
    }
    const std::vector<int32_t> axis = positions;
    for (int i = 0; i < 2; ++i) positions.insert(positions.end(), axis.begin(), axis.end());
  }

  BatchSpec spec() const {
    const auto view = [](const std::vector<int32_t>& v) { return IntView{v.data(), static_cast<int64_t>(v.size())}; };
    BatchSpec spec;
    spec.tokenIds = view(tokens);
    spec.positions = view(positions);
    spec.rowStart = view(rowStart);
    spec.rowCount = view(rowCount);
    spec.contextLen = view(contextLen);
    spec.stateSlot = view(slot);
    spec.initState = view(init);
    spec.snapshotSlot = view(snapshotSlot);
    spec.snapshotRows = view(snapshotRows);
    spec.mode = view(mode);
    spec.pageTable = view(pages);
    spec.maxPages = maxPages;
    return spec;
  }

  std::vector<int32_t> tokens, positions, rowStart, rowCount, contextLen, slot, mode, pages, init, snapshotSlot, snapshotRows;
  int64_t maxPages = 0;
};

inline StepBuffersOptions stepOptions(RowFormat rows) { return {512, kHidden, kExperts, kTopK, rows, 8, kVocab}; }

inline GatedDeltaNetSpec deltaNetSpec(WeightFormat format) {
  GatedDeltaNetSpec spec;
  spec.hidden = kHidden;
  spec.numKeyHeads = 2;
  spec.numValueHeads = 4;
  spec.keyHeadDim = 12;
  spec.valueHeadDim = 20;
  spec.convKernel = 4;
  spec.inputNorm = {1e-6f, true};
  spec.format = format;
  return spec;
}

inline GatedAttentionSpec attentionSpec(WeightFormat format) {
  GatedAttentionSpec spec;
  spec.hidden = kHidden;
  spec.numHeads = 4;
  spec.numKvHeads = 2;
  spec.headDim = 24;
  spec.rotaryDim = 8;
  spec.invFreq = {1.0f, 0.3f, 0.09f, 0.027f};
  spec.freqAxis = {0, 1, 2, 0};
  spec.outputGate = true;
  spec.inputNorm = spec.qkNorm = {1e-6f, true};
  spec.format = format;
  return spec;
}

/** The backend that GUILDHALL_TEST_BACKEND names, by default the first available one: the tests know blocks only. */
inline const BackendEntry& testedBackend() {
  const char* const name = std::getenv("GUILDHALL_TEST_BACKEND");
  for (const BackendEntry& entry : backends()) {
    if (name == nullptr ? entry.available() : std::string(name) == entry.name) return entry;
  }
  failAt(__FILE__, __LINE__, "no such backend");
}

class Model {
 public:
  Model(const RuntimeOptions& options, WeightFormat format)
      : ledger(std::make_shared<MemoryLedger>()),
        backend(testedBackend().create(options, ledger)),
        weights_(17, format == WeightFormat::kF32 ? Dtype::kF32 : Dtype::kBf16) {
    const RowFormat rows = format == WeightFormat::kF32 ? RowFormat::kF32 : RowFormat::kBf16;
    const GatedDeltaNetSpec gdn = deltaNetSpec(format);
    const GatedAttentionSpec att = attentionSpec(format);
    Weights& w = weights_;
    step = backend->createStepBuffers(stepOptions(rows));
    states = backend->createStatePool(
        {6, 1, gdn.numValueHeads, gdn.keyHeadDim, gdn.valueHeadDim, gdn.convDim(), gdn.convKernel});
    const KvFormat pages = rows == RowFormat::kF32 ? KvFormat::kF32 : KvFormat::kBf16;
    kv = backend->createKvPool({24, 1, att.numKvHeads, att.headDim, pages});
    embedding = backend->createEmbedding(w.matrix(kVocab, kHidden), format);
    deltaNet = backend->createGatedDeltaNet(
        gdn, {w.vector(kHidden, 0), w.matrix(gdn.convDim(), kHidden), w.matrix(gdn.valueDim(), kHidden),
              w.matrix(4, kHidden), w.matrix(4, kHidden), w.matrix(gdn.convDim(), 4), w.vector(4, 1), w.vector(4, 0.5f),
              w.vector(20, 1), w.matrix(kHidden, gdn.valueDim())});
    attention = backend->createGatedAttention(
        att, {w.vector(kHidden, 0), w.matrix(2 * 4 * 24, kHidden), w.matrix(2 * 24, kHidden), w.matrix(2 * 24, kHidden),
              w.matrix(kHidden, 4 * 24), w.vector(24, 0), w.vector(24, 0)});
    gate = backend->createMoeGate({kHidden, kExperts, kTopK, true, {1e-6f, true}, format},
                                  {w.vector(kHidden, 0), w.matrix(kExperts, kHidden)});
    shared = backend->createSharedExpert({kHidden, 28, format}, {w.matrix(28, kHidden), w.matrix(28, kHidden),
                                                                 w.matrix(kHidden, 28), w.matrix(1, kHidden)});
    head = backend->createLmHead({kHidden, kVocab, 70, {1e-6f, true}, format},
                                 {w.vector(kHidden, 0), w.matrix(kVocab, kHidden)});
    shard = backend->createExpertShard({1, kExperts, kHidden, kIntermediate, format, rows});
    for (int64_t e = 0; e < kExperts; ++e) {
      const ExpertWeights expert{w.matrix(kIntermediate, kHidden), w.matrix(kIntermediate, kHidden),
                                 w.matrix(kHidden, kIntermediate)};
      shard->checkLoad(0, e, expert);
      shard->load(0, e, expert);
    }
  }

  /** Hidden rows after both layers, then the logits of the last row of each sequence. */
  Floats forward(const std::vector<Sequence>& sequences) {
    const BatchArrays arrays(sequences);
    step->setBatch(arrays.spec());
    call([&] { embedding->forward(*step); });
    deltaNet->check(*step, *states);
    call([&] { deltaNet->forward(*step, *states); });
    attention->check(*step, *kv);
    call([&] { attention->forward(*step, *kv); });
    gate->check(*step);
    call([&] { gate->forward(*step); });
    shared->check(*step);
    call([&] { shared->forward(*step); });
    step->beginCombine();
    exchange(0, step->numTokens());
    checkCombine(*step);
    call([&] { backend->combine(*step); });
    std::vector<int32_t> last;
    for (size_t i = 0; i < sequences.size(); ++i) last.push_back(arrays.rowStart[i] + arrays.rowCount[i] - 1);
    const IntView rows{last.data(), static_cast<int64_t>(last.size())};
    head->check(*step, rows);
    call([&] { head->forward(*step, rows); });
    Floats out(step->hidden(), step->hidden() + step->numTokens() * kHidden);
    out.insert(out.end(), step->logits(), step->logits() + rows.size * kVocab);
    return out;
  }

  /** Sends rows [begin, end) with all their entries through the shard. */
  void exchange(int64_t begin, int64_t end) {
    std::vector<int32_t> rowIndex, counts, experts, slots;
    Floats gateWeights;
    for (int64_t t = begin; t < end; ++t) {
      std::vector<std::pair<int32_t, int32_t>> entries;
      for (int64_t k = 0; k < kTopK; ++k)
        entries.emplace_back(step->topkIds()[t * kTopK + k], static_cast<int32_t>(t * kTopK + k));
      std::sort(entries.begin(), entries.end());
      rowIndex.push_back(static_cast<int32_t>(t));
      counts.push_back(kTopK);
      for (const auto& [expert, slot] : entries) {
        experts.push_back(expert);
        slots.push_back(slot);
        gateWeights.push_back(step->topkWeights()[slot]);
      }
    }
    const auto view = [](const std::vector<int32_t>& v) { return IntView{v.data(), static_cast<int64_t>(v.size())}; };
    const DispatchRows rows{view(rowIndex), view(counts), view(experts), gateWeights.data(),
                            static_cast<int64_t>(gateWeights.size())};
    ForwardFrame header;
    header.combineMode = mode;
    std::vector<uint8_t> frame(static_cast<size_t>(step->forwardBytes(header, rows)));
    step->packForward(header, rows, frame.data());
    OwnedFrame reply;
    call([&] { reply = shard->forward({frame.data(), static_cast<int64_t>(frame.size())}, 0); });
    step->unpackReply({reply.data.get(), reply.size}, view(slots), view(counts), mode);
  }

  template <typename Body>
  void call(Body body) {
    backend->beginCall(nullptr);
    body();
    backend->endCall();
  }

  std::shared_ptr<MemoryLedger> ledger;
  std::unique_ptr<Backend> backend;
  CombineMode mode = CombineMode::kExact;
  std::shared_ptr<StepBuffers> step;
  std::shared_ptr<StatePool> states;
  std::shared_ptr<KvPool> kv;
  std::shared_ptr<Embedding> embedding;
  std::shared_ptr<GatedDeltaNet> deltaNet;
  std::shared_ptr<GatedAttention> attention;
  std::shared_ptr<MoeGate> gate;
  std::shared_ptr<SharedExpert> shared;
  std::shared_ptr<LmHead> head;
  std::shared_ptr<ExpertShard> shard;

 private:
  Weights weights_;
};

/** Message of the InvalidArgument that body throws. */
template <typename Body>
std::string invalidMessage(Body body) {
  try {
    body();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  failAt(__FILE__, __LINE__, "nothing was thrown");
}

#define CHECK_STARTS(message, prefix) CHECK_MSG((message).rfind(prefix, 0) == 0, message)

}  // namespace guildhall::test
