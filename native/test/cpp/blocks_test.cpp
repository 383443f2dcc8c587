// A whole small model: the same bits on every instruction set, on any number of threads, alone or in a batch, in one
// prefill or several, and a replay by the recurrent form equal to single steps.

#include "cpp/fixture.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

std::vector<int32_t> tokens(int64_t n, int32_t seed) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<int32_t>((i * i * 3 + i * 11 + seed * 17) % 70));
  return out;
}

Floats rowsOf(const Floats& all, int64_t begin, int64_t end) {
  return Floats(all.begin() + begin * kHidden, all.begin() + end * kHidden);
}

const std::vector<Sequence> kBatch = {{tokens(150, 1), 0, 0, 0, {3, 4, 5}},
                                      {tokens(1, 2), 0, 1, 1, {6}},
                                      {tokens(64, 3), 0, 2, 0, {7}},
                                      {tokens(30, 4), 0, 3, 0, {8}}};

void resetAll(Model& model) {
  for (int64_t slot = 0; slot < 6; ++slot) model.states->reset(slot);
}

void checkVariants(WeightFormat format, Bf16Kernels kernels) {
  Floats expected;
  for (const Isa isa : {Isa::Scalar, Isa::Avx2, Isa::Avx512}) {
    if (!isaSupported(isa) || (kernels == Bf16Kernels::kDot && isa != Isa::Avx512)) continue;
    for (const int threads : {1, 3}) {
      Model model({threads, isa, kernels}, format);
      const Floats got = model.forward(kBatch);
      if (expected.empty()) expected = got;
      CHECK_SAME_BITS(got, expected, isaName(isa));
    }
  }
}

/** Every sequence alone gives its rows and logits of the batch. */
void checkBatch(WeightFormat format, Bf16Kernels kernels) {
  Model model({2, std::nullopt, kernels}, format);
  const Floats together = model.forward(kBatch);
  int64_t total = 0;
  for (const Sequence& s : kBatch) total += static_cast<int64_t>(s.tokens.size());
  int64_t row = 0;
  for (size_t i = 0; i < kBatch.size(); ++i) {
    resetAll(model);
    const Floats alone = model.forward({kBatch[i]});
    const auto count = static_cast<int64_t>(kBatch[i].tokens.size());
    CHECK_SAME_BITS(rowsOf(alone, 0, count), rowsOf(together, row, row + count), "sequence alone");
    const auto logits = together.begin() + total * kHidden + static_cast<int64_t>(i) * kVocab;
    CHECK_SAME_BITS(Floats(alone.begin() + count * kHidden, alone.end()), Floats(logits, logits + kVocab),
                    "logits alone");
    row += count;
  }
}

/** A prompt in pieces cut at multiples of 64. */
void checkChunks(WeightFormat format, Bf16Kernels kernels) {
  Model model({2, std::nullopt, kernels}, format);
  const std::vector<int32_t> prompt = tokens(300, 5);
  const std::vector<int32_t> pages = {9, 2, 11, 1, 15};
  const Floats whole = model.forward({{prompt, 0, 0, 0, pages}});
  for (const std::vector<int32_t>& cuts : {std::vector<int32_t>{64, 128, 300}, std::vector<int32_t>{256, 300}}) {
    resetAll(model);
    int32_t from = 0;
    for (const int32_t to : cuts) {
      const Floats part = model.forward({{{prompt.begin() + from, prompt.begin() + to}, from, 0, 0, pages}});
      CHECK_SAME_BITS(rowsOf(part, 0, to - from), rowsOf(whole, from, to), "prefill in pieces");
      from = to;
    }
  }
}

/** Generated tokens one by one, and as one replay of many in the recurrent form. */
void checkReplay(WeightFormat format, Bf16Kernels kernels) {
  Model model({2, std::nullopt, kernels}, format);
  const std::vector<int32_t> prompt = tokens(70, 6);
  const std::vector<int32_t> generated = tokens(75, 7);
  const std::vector<int32_t> pages = {9, 2, 11};
  model.forward({{prompt, 0, 0, 0, pages}});
  model.states->copy(0, 1);
  Floats steps;
  for (size_t i = 0; i < generated.size(); ++i) {
    const Floats out = model.forward({{{generated[i]}, 70 + static_cast<int32_t>(i), 0, 1, pages}});
    steps.insert(steps.end(), out.begin(), out.begin() + kHidden);
  }
  const Floats replay = model.forward({{generated, 70, 1, 1, pages}});
  CHECK_SAME_BITS(rowsOf(replay, 0, 75), steps, "replay");
  CHECK(std::memcmp(model.states->slot(0), model.states->slot(1), static_cast<size_t>(model.states->slotBytes())) == 0);
}

bool sameSlot(const Model& model, int64_t a, int64_t b) {
  return std::memcmp(model.states->slot(a), model.states->slot(b), static_cast<size_t>(model.states->slotBytes())) == 0;
}

/** A prompt leaves its state on the way; another sequence goes on from there, in company and with its own pages. */
void checkFork(WeightFormat format, Bf16Kernels kernels) {
  for (const Isa isa : {Isa::Scalar, Isa::Avx2, Isa::Avx512}) {
    if (!isaSupported(isa) || (kernels == Bf16Kernels::kDot && isa != Isa::Avx512)) continue;
    Model model({2, isa, kernels}, format);
    const std::vector<int32_t> prompt = tokens(150, 1);
    const Sequence company = {tokens(70, 5), 0, 3, 0, {7, 8}, kInitZeros, 4, 64};
    const Floats plain = model.forward({{prompt, 0, 0, 0, {3, 4, 5}}, {tokens(70, 5), 0, 3, 0, {7, 8}}});
    model.states->copy(0, 5);
    const Floats keeping = model.forward({{prompt, 0, 0, 0, {3, 4, 5}, kInitZeros, 1, 128}, company});
    CHECK_SAME_BITS(keeping, plain, "beside snapshots");
    CHECK(sameSlot(model, 0, 5));
    model.states->reset(5);
    model.forward({{{prompt.begin(), prompt.begin() + 128}, 0, 5, 0, {9, 10}}});
    CHECK(sameSlot(model, 1, 5));
    const Floats fork = model.forward({company, {{prompt.begin() + 128, prompt.end()}, 128, 2, 0, {3, 4, 11}, 1}});
    CHECK_SAME_BITS(rowsOf(fork, 70, 92), rowsOf(plain, 128, 150), "fork");
    const auto logits = plain.begin() + 220 * kHidden;
    CHECK_SAME_BITS(Floats(fork.end() - kVocab, fork.end()), Floats(logits, logits + kVocab), "logits of the fork");
    CHECK(sameSlot(model, 0, 2));
  }
}

/** Partial sums agree with the exact mode within rounding; rows may come in several messages. */
void testCombineModes() {
  Model model({2, std::nullopt, Bf16Kernels::kAuto}, WeightFormat::kF32);
  const Floats exact = model.forward(kBatch);
  resetAll(model);
  model.mode = CombineMode::kPartial;
  const Floats partial = model.forward(kBatch);
  CHECK(partial.size() == exact.size());
  for (size_t i = 0; i < exact.size(); ++i) {
    if (std::isinf(exact[i])) continue;
    CHECK(std::fabs(exact[i] - partial[i]) <= 1e-5f * std::max(1.0f, std::fabs(exact[i])));
  }
}

void testMissingRows() {
  Model model({1, std::nullopt, Bf16Kernels::kAuto}, WeightFormat::kF32);
  model.forward(kBatch);
  const int64_t all = model.step->numTokens();
  model.step->beginCombine();
  CHECK(model.step->missing() == all * kTopK);
  model.exchange(10, all);
  CHECK(model.step->missing() == 10 * kTopK);
  CHECK_STARTS(invalidMessage([&] { checkCombine(*model.step); }), "step: 30 expert rows are missing");
  CHECK_STARTS(invalidMessage([&] { model.exchange(9, 11); }), "slots[");
  CHECK(model.step->missing() == 10 * kTopK);
  model.exchange(0, 10);
  checkCombine(*model.step);
}

void testLedger() {
  std::shared_ptr<MemoryLedger> ledger;
  {
    const Model model({1, std::nullopt, Bf16Kernels::kAuto}, WeightFormat::kBf16);
    ledger = model.ledger;
    CHECK(ledger->bytes(MemoryKind::kKv) == 24 * model.kv->pageBytes());
    CHECK(ledger->bytes(MemoryKind::kStates) == 6 * model.states->slotBytes());
    CHECK(ledger->bytes(MemoryKind::kWeights) > kExperts * model.shard->expertBytes());
    model.shard->unload(0, 3);
    CHECK(!model.shard->has(0, 3) && model.shard->has(0, 4));
  }
  for (const MemoryKind kind : {MemoryKind::kWeights, MemoryKind::kKv, MemoryKind::kStates, MemoryKind::kBuffers}) {
    CHECK(ledger->bytes(kind) == 0);
  }
}

}  // namespace

int main() {
  std::vector<std::pair<WeightFormat, Bf16Kernels>> classes = {{WeightFormat::kF32, Bf16Kernels::kAuto},
                                                               {WeightFormat::kBf16, Bf16Kernels::kFma}};
  const bool dot = testedBackend().create({1, std::nullopt, Bf16Kernels::kAuto}, nullptr)->info().bf16Dot;
  if (dot) classes.emplace_back(WeightFormat::kBf16, Bf16Kernels::kDot);
  for (const WeightFormat format : {WeightFormat::kFp8, WeightFormat::kQ8, WeightFormat::kQ4}) {
    classes.emplace_back(format, Bf16Kernels::kFma);
    if (dot) classes.emplace_back(format, Bf16Kernels::kDot);
  }
  for (const auto& [format, kernels] : classes) {
    checkVariants(format, kernels);
    checkBatch(format, kernels);
    checkChunks(format, kernels);
    checkReplay(format, kernels);
    checkFork(format, kernels);
  }
  testCombineModes();
  testMissingRows();
  testLedger();
  return 0;
}
