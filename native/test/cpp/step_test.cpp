// Checks of batches, dispatch and replies: each mistake is refused by name and changes nothing.

#include "cpp/fixture.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

std::shared_ptr<StepBuffers> makeStep() { return std::make_shared<StepBuffers>(stepOptions(RowFormat::kF32), nullptr); }

const std::vector<Sequence> kGood = {{{1, 2, 3}, 64, 0, 0, {1, 2}}, {{4}, 5, 2, 1, {3}}};

std::string batchError(const std::function<void(BatchArrays&)>& damage) {
  BatchArrays arrays(kGood);
  damage(arrays);
  const auto step = makeStep();
  const std::string message = invalidMessage([&] { step->setBatch(arrays.spec()); });
  CHECK(step->numTokens() == 0);
  return message;
}

void testBatch() {
  const auto step = makeStep();
  step->setBatch(BatchArrays(kGood).spec());
  CHECK(step->numTokens() == 4);
  CHECK(step->batch().largestPage() == 3 && step->batch().smallestSlot() == 0 && step->batch().largestSlot() == 2);

  CHECK_STARTS(batchError([](auto& a) { a.tokens[1] = kVocab; }), "spec.tokenIds[1]: 75");
  CHECK_STARTS(batchError([](auto& a) { a.tokens[0] = -1; }), "spec.tokenIds[0]");
  CHECK_STARTS(batchError([](auto& a) { a.tokens.clear(); }), "spec.tokenIds.length");
  CHECK_STARTS(batchError([](auto& a) { a.tokens.resize(513); }), "spec.tokenIds.length");
  CHECK_STARTS(batchError([](auto& a) { a.positions.pop_back(); }), "spec.positions");
  CHECK_STARTS(batchError([](auto& a) { a.positions[5] = -1; }), "spec.positions[5]");
  CHECK_STARTS(batchError([](auto& a) { a.rowStart[1] = 2; }), "spec.rowStart[1]: 2, expected 3");
  CHECK_STARTS(batchError([](auto& a) { a.rowCount[1] = 0; }), "spec.rowCount[1]");
  CHECK_STARTS(batchError([](auto& a) { a.rowCount[1] = 2; }), "spec.rowCount[1]");
  CHECK_STARTS(batchError([](auto& a) { a.rowCount.pop_back(); }), "spec.rowCount");
  CHECK_STARTS(batchError([](auto& a) {
                 a.rowStart.pop_back(), a.rowCount.pop_back(), a.contextLen.pop_back(), a.slot.pop_back(),
                     a.mode.pop_back(), a.init.pop_back(), a.snapshotSlot.pop_back(), a.snapshotRows.pop_back();
                 a.pages.resize(2);
               }),
               "spec.rowCount: covers 3 of 4 rows");
  CHECK_STARTS(batchError([](auto& a) { a.contextLen[0] = 63; }), "spec.contextLen[0]: 63 is not a multiple of 64");
  CHECK_STARTS(batchError([](auto& a) { a.contextLen[1] = -1; }), "spec.contextLen[1]");
  CHECK_STARTS(batchError([](auto& a) { a.contextLen[0] = 128; }), "spec.maxPages: 2, sequence 0 needs 3");
  CHECK_STARTS(batchError([](auto& a) { a.mode[0] = 2; }), "spec.mode[0]");
  CHECK_STARTS(batchError([](auto& a) { a.slot[1] = 0; }), "spec.stateSlot: 0 is used by two");
  CHECK_STARTS(batchError([](auto& a) { a.slot[1] = -2; }), "spec.stateSlot[1]");
  CHECK_STARTS(batchError([](auto& a) { a.pages[1] = -1; }), "spec.pageTable[1]");
  CHECK_STARTS(batchError([](auto& a) { a.pages[2] = 2; }), "spec.pageTable: 2 is used by two");
  CHECK_STARTS(batchError([](auto& a) { a.pages.pop_back(); }), "spec.pageTable");
}

/** States that sequences begin from and leave behind. */
void testStates() {
  const auto error = [](std::vector<Sequence> sequences) {
    return invalidMessage([&] { makeStep()->setBatch(BatchArrays(sequences).spec()); });
  };
  const auto prompt = [](int32_t context, int32_t slot) {
    return Sequence{std::vector<int32_t>(100, 1), context, slot, kModeChunked, {1, 2, 3}};
  };
  const auto other = [](int32_t slot) { return Sequence{{4}, 5, slot, kModeRecurrent, {9}}; };
  const auto with = [](Sequence s, int32_t init, int32_t slot = -1, int32_t rows = 0) {
    s.init = init;
    s.snapshotSlot = slot;
    s.snapshotRows = rows;
    return s;
  };
  const auto step = makeStep();
  step->setBatch(BatchArrays({with(prompt(64, 0), 7, 3, 64), with(other(2), 7, 4, 1)}).spec());
  CHECK(step->batch().largestInit() == 7 && step->batch().largestSnapshot() == 4);
  step->setBatch(BatchArrays({with(prompt(0, 0), kInitZeros)}).spec());
  CHECK(step->batch().largestInit() == kInitZeros && step->batch().largestSnapshot() == -1);
  // Without a state nothing of it counts.
  step->setBatch(BatchArrays({with(prompt(64, -1), kInitZeros, 3, 500), with(other(2), 3)}).spec());
  CHECK(step->batch().largestInit() == 3 && step->batch().largestSnapshot() == -1);

  CHECK_STARTS(error({with(prompt(64, 0), kInitZeros)}), "spec.initState[0]: -2 after 64 tokens");
  CHECK_STARTS(error({with(prompt(64, 0), -3)}), "spec.initState[0]");
  CHECK_STARTS(error({with(prompt(64, 0), 0)}), "spec.initState[0]: 0 is written");
  CHECK_STARTS(error({prompt(64, 0), with(other(2), 0)}), "spec.initState[1]: 0 is written");
  CHECK_STARTS(error({with(prompt(64, 0), -1, 5, 64), with(other(2), 5)}), "spec.initState[1]: 5 is written");
  CHECK_STARTS(error({with(prompt(64, 0), 3, 3, 64)}), "spec.initState[0]: 3 is written");
  CHECK_STARTS(error({with(prompt(64, 0), -1, -2)}), "spec.snapshotSlot[0]");
  CHECK_STARTS(error({with(prompt(64, 0), -1, 0, 64)}), "spec.snapshotSlot[0]: 0 is written");
  CHECK_STARTS(error({with(prompt(64, 0), -1, 2, 64), other(2)}), "spec.snapshotSlot[0]: 2 is written");
  CHECK_STARTS(error({with(prompt(64, 0), -1, 5, 64), with(other(2), -1, 5, 1)}), "spec.snapshotSlot[1]: 5 is written");
  CHECK_STARTS(error({with(prompt(64, 0), -1, 3, 0)}), "spec.snapshotRows[0]");
  CHECK_STARTS(error({with(prompt(64, 0), -1, 3, 101)}), "spec.snapshotRows[0]");
  CHECK_STARTS(error({with(prompt(64, 0), -1, 3, 63)}), "spec.snapshotRows[0]: ends at 127");
  CHECK_STARTS(error({with(other(2), -1, 3, 2)}), "spec.snapshotRows[0]");
  CHECK_STARTS(batchError([](auto& a) { a.init.pop_back(); }), "spec.initState: 1 entries");
  CHECK_STARTS(batchError([](auto& a) { a.snapshotSlot.pop_back(); }), "spec.snapshotSlot: 1 entries");
  CHECK_STARTS(batchError([](auto& a) { a.snapshotRows.pop_back(); }), "spec.snapshotRows: 1 entries");
}

/** A shared prefix page is fine as long as nobody writes it; a batch may have no pages and no slots. */
void testSharedPages() {
  const auto step = makeStep();
  step->setBatch(BatchArrays({{{1}, 64, 0, 0, {1, 2}}, {{4}, 64, 1, 0, {1, 3}}}).spec());
  step->setBatch(BatchArrays({{{1}, 0, -1, 0, {}}, {{4}, 0, -1, 0, {}}}).spec());
  CHECK(!step->batch().hasPages() && step->batch().smallestSlot() == -1);
}

/** What a block says about pools that do not fit. */
void testPools() {
  Model model({1, std::nullopt, Bf16Kernels::kAuto}, WeightFormat::kF32);
  CHECK_STARTS(invalidMessage([&] { model.deltaNet->check(*model.step, *model.states); }), "step: no batch");
  model.step->setBatch(BatchArrays({{{1}, 0, 6, 0, {24}}}).spec());
  CHECK_STARTS(invalidMessage([&] { model.deltaNet->check(*model.step, *model.states); }), "step.stateSlot: 6");
  CHECK_STARTS(invalidMessage([&] { model.attention->check(*model.step, *model.kv); }), "step.pageTable: 24");
  model.step->setBatch(BatchArrays({{{1}, 0, 5, 1, {1}, 6}}).spec());
  CHECK_STARTS(invalidMessage([&] { model.deltaNet->check(*model.step, *model.states); }), "step.initState: 6");
  model.step->setBatch(BatchArrays({{{1}, 0, 5, 1, {1}, -1, 6, 1}}).spec());
  CHECK_STARTS(invalidMessage([&] { model.deltaNet->check(*model.step, *model.states); }), "step.snapshotSlot: 6");
  model.step->setBatch(BatchArrays({{{1}, 0, -1, 0, {}}}).spec());
  CHECK_STARTS(invalidMessage([&] { model.deltaNet->check(*model.step, *model.states); }), "step.stateSlot: -1");
  CHECK_STARTS(invalidMessage([&] { model.attention->check(*model.step, *model.kv); }),
               "step.pageTable: the batch has no pages");
  const KvPool otherKv({4, 1, 2, 16, KvFormat::kF32}, nullptr);
  CHECK_STARTS(invalidMessage([&] { model.attention->check(*model.step, otherKv); }), "kv: shaped");
  const StatePool otherStates({4, 1, 4, 12, 20, 99, 4}, nullptr);
  CHECK_STARTS(invalidMessage([&] { model.deltaNet->check(*model.step, otherStates); }), "states: shaped");
  CHECK_STARTS(invalidMessage([&] { model.shared->check(*model.step); }), "step: no gate");
  CHECK_STARTS(invalidMessage([&] { model.step->beginCombine(); }), "step: no gate");
  const std::vector<int32_t> rows = {1};
  CHECK_STARTS(invalidMessage([&] { model.head->check(*model.step, {rows.data(), 1}); }), "rowIndex[0]: 1");
  CHECK_STARTS(invalidMessage([&] { KvPool({int64_t{1} << 31, 1 << 20, 1 << 20, 1 << 20, KvFormat::kF32}, nullptr); }),
               "options: too large");
}

struct Dispatch {
  std::vector<int32_t> rowIndex = {0, 3}, counts = {2, 1}, experts = {1, 4, 0};
  Floats weights = {0.5f, 0.5f, 1.0f};
  ForwardFrame header;

  std::string error(const StepBuffers& step) const {
    const auto view = [](const std::vector<int32_t>& v) { return IntView{v.data(), static_cast<int64_t>(v.size())}; };
    return invalidMessage([&] {
      step.forwardBytes(
          header, {view(rowIndex), view(counts), view(experts), weights.data(), static_cast<int64_t>(weights.size())});
    });
  }
};

void testDispatch() {
  const auto step = makeStep();
  step->setBatch(BatchArrays(kGood).spec());
  CHECK_STARTS(Dispatch{}.error(*step), "step: no gate");
  step->setGated();
  Dispatch d;
  d.rowIndex[1] = 4;
  CHECK_STARTS(d.error(*step), "rowIndex[1]: 4");
  d = {};
  d.counts[1] = 0;
  CHECK_STARTS(d.error(*step), "entryCount[1]");
  d = {};
  d.counts.pop_back();
  CHECK_STARTS(d.error(*step), "entryCount");
  d = {};
  d.experts[1] = 1;
  CHECK_STARTS(d.error(*step), "experts[1]: not ascending");
  d = {};
  d.experts[2] = kExperts;
  CHECK_STARTS(d.error(*step), "experts[2]: 9");
  d = {};
  d.experts.pop_back();
  CHECK_STARTS(d.error(*step), "experts: 2 entries");
  d = {};
  d.weights.pop_back();
  CHECK_STARTS(d.error(*step), "weights: 2 entries");
  d = {};
  d.header.traceparent = {reinterpret_cast<const uint8_t*>("x"), 1};
  CHECK_STARTS(d.error(*step), "header.traceparent");
}

/** Replies that do not fit are refused whole. */
void testReplies() {
  const auto step = makeStep();
  step->setBatch(BatchArrays(kGood).spec());
  step->setGated();
  step->beginCombine();
  const auto reply = [&](ReplyStatus status, int64_t rows, int64_t bytes) {
    ReplyFrame frame;
    frame.status = status;
    frame.numRows = static_cast<uint32_t>(rows);
    frame.rows.size = bytes;
    std::vector<uint8_t> out(static_cast<size_t>(replyFrameBytes(frame)));
    writeReply(frame, out.data());
    return out;
  };
  const auto error = [&](const std::vector<uint8_t>& frame, std::vector<int32_t> slots, std::vector<int32_t> counts,
                         CombineMode mode = CombineMode::kExact) {
    const std::string message = invalidMessage([&] {
      step->unpackReply({frame.data(), static_cast<int64_t>(frame.size())},
                        {slots.data(), static_cast<int64_t>(slots.size())},
                        {counts.data(), static_cast<int64_t>(counts.size())}, mode);
    });
    CHECK(step->missing() == 12);
    return message;
  };
  const int64_t row = kHidden * 4;
  CHECK_STARTS(error({1, 2, 3}, {0}, {1}), "reply: ");
  CHECK_STARTS(error(reply(ReplyStatus::kBusy, 0, 0), {0}, {1}), "reply: status 3");
  CHECK_STARTS(error(reply(ReplyStatus::kOk, 1, row), {0, 1}, {2}), "reply: 1 rows");
  CHECK_STARTS(error(reply(ReplyStatus::kOk, 2, 2 * row - 1), {0, 1}, {2}), "reply: 2 rows");
  CHECK_STARTS(error(reply(ReplyStatus::kOk, 2, 2 * row), {0, 1}, {2}, CombineMode::kPartial), "reply: 2 rows");
  CHECK_STARTS(error(reply(ReplyStatus::kOk, 2, 2 * row), {0, 0}, {2}), "slots[1]");
  CHECK_STARTS(error(reply(ReplyStatus::kOk, 2, 2 * row), {0, 12}, {2}), "slots[1]: 12");
  CHECK_STARTS(error(reply(ReplyStatus::kOk, 2, 2 * row), {0, 1}, {1}), "slots: 2 entries");
}

}  // namespace

int main() {
  testBatch();
  testStates();
  testSharedPages();
  testPools();
  testDispatch();
  testReplies();
  return 0;
}
