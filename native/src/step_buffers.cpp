#include "guildhall/step_buffers.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "guildhall/check.h"

namespace guildhall {

namespace {

constexpr int64_t kTraceparentBytes = 55;
/** Expert numbers and entry counts are u16 on the wire. */
constexpr int64_t kMaxExperts = 65536;

void putU16(uint8_t* out, int64_t index, int32_t value) {
  out[2 * index] = static_cast<uint8_t>(value & 0xff);
  out[2 * index + 1] = static_cast<uint8_t>(value >> 8 & 0xff);
}

std::string at(const char* name, int64_t index) { return std::string(name) + "[" + std::to_string(index) + "]"; }

/** Frame with the sizes of its arrays filled in. */
ForwardFrame sized(const ForwardFrame& header, const DispatchRows& rows, int64_t rowBytes) {
  ForwardFrame frame = header;
  frame.numRows = static_cast<uint32_t>(rows.rowIndex.size);
  frame.rowEntries.size = 2 * rows.entryCount.size;
  frame.experts.size = 2 * rows.experts.size;
  frame.weights.size = 4 * rows.numWeights;
  frame.rows.size = rows.rowIndex.size * rowBytes;
  return frame;
}

}  // namespace

StepBuffers::StepBuffers(const StepBuffersOptions& options, std::shared_ptr<MemoryLedger> ledger)
    : options_(options), ledger_(std::move(ledger)) {
  checkRange("options.maxTokens", options.maxTokens, 1, kMaxCount);
  checkRange("options.hidden", options.hidden, 1, kMaxCount);
  checkRange("options.numExperts", options.numExperts, 1, kMaxExperts);
  checkRange("options.topK", options.topK, 1, options.numExperts);
  checkRange("options.maxLogitRows", options.maxLogitRows, 1, kMaxCount);
  checkRange("options.vocab", options.vocab, 1, int64_t{1} << 30);
  const int64_t f32Rows = checkedProduct("options", {options.maxTokens, options.hidden, 4});
  const int64_t slots = checkedProduct("options", {options.maxTokens, options.topK});
  const auto make = [&](int64_t bytes) { return Buffer(bytes, MemoryKind::kBuffers, ledger_); };
  hidden_ = make(f32Rows);
  normed_ = make(f32Rows);
  shared_ = make(f32Rows);
  rows_ = make(options.maxTokens * rowBytes());
  topkIds_ = make(slots * 4);
  topkWeights_ = make(slots * 4);
  logits_ = make(checkedProduct("options", {options.maxLogitRows, options.vocab, 4}));
  expertRows_ = make(checkedProduct("options", {slots, rowBytes()}));
  slotState_.resize(static_cast<size_t>(slots), SlotState::kMissing);
}

void StepBuffers::setBatch(const BatchSpec& spec) {
  batch_.set(spec, options_);
  ropeTable_.current = false;
  gated_ = false;
  sharedPresent_ = false;
  missing_ = 0;
  numLogitRows_ = 0;
}

void StepBuffers::checkDispatch(const ForwardFrame& header, const DispatchRows& rows) const {
  if (!gated_) failRange("step", "no gate has run on this batch");
  if (header.traceparent.size != 0 && header.traceparent.size != kTraceparentBytes) {
    failRange("header.traceparent", std::to_string(header.traceparent.size) + " bytes, expected 55");
  }
  checkRange("rowIndex.length", rows.rowIndex.size, 1, numTokens());
  if (rows.entryCount.size != rows.rowIndex.size) {
    failRange("entryCount",
              std::to_string(rows.entryCount.size) + " entries, expected " + std::to_string(rows.rowIndex.size));
  }
  int64_t entries = 0;
  for (int64_t r = 0; r < rows.rowIndex.size; ++r) {
    checkRange(at("rowIndex", r), rows.rowIndex[r], 0, numTokens() - 1);
    checkRange(at("entryCount", r), rows.entryCount[r], 1, options_.topK);
    for (int64_t e = entries; e < entries + rows.entryCount[r] && e < rows.experts.size; ++e) {
      checkRange(at("experts", e), rows.experts[e], 0, options_.numExperts - 1);
      if (e > entries && rows.experts[e] <= rows.experts[e - 1])
        failRange(at("experts", e), "not ascending in its row");
    }
    entries += rows.entryCount[r];
  }
  if (entries != rows.experts.size) {
    failRange("experts", std::to_string(rows.experts.size) + " entries, expected " + std::to_string(entries));
  }
  if (entries != rows.numWeights) {
    failRange("weights", std::to_string(rows.numWeights) + " entries, expected " + std::to_string(entries));
  }
}

int64_t StepBuffers::forwardBytes(const ForwardFrame& header, const DispatchRows& rows) const {
  checkDispatch(header, rows);
  return forwardFrameBytes(sized(header, rows, rowBytes()));
}

void StepBuffers::packForward(const ForwardFrame& header, const DispatchRows& rows, uint8_t* out) const {
  ForwardFrame frame = sized(header, rows, rowBytes());
  std::vector<uint8_t> counts(static_cast<size_t>(frame.rowEntries.size));
  std::vector<uint8_t> experts(static_cast<size_t>(frame.experts.size));
  for (int64_t r = 0; r < rows.entryCount.size; ++r) putU16(counts.data(), r, rows.entryCount[r]);
  for (int64_t e = 0; e < rows.experts.size; ++e) putU16(experts.data(), e, rows.experts[e]);
  frame.rowEntries.data = counts.data();
  frame.experts.data = experts.data();
  frame.weights.data = reinterpret_cast<const uint8_t*>(rows.weights);
  uint8_t* target = writeForward(frame, out);
  for (int64_t r = 0; r < rows.rowIndex.size; ++r, target += rowBytes()) {
    std::memcpy(target, this->rows() + rows.rowIndex[r] * rowBytes(), static_cast<size_t>(rowBytes()));
  }
}

void StepBuffers::readHidden(float* out) const {
  std::copy_n(hidden(), numTokens() * options_.hidden, out);
}

void StepBuffers::writeHidden(const float* rows) {
  std::copy_n(rows, numTokens() * options_.hidden, hidden());
}

void StepBuffers::beginCombine() {
  if (!gated_) failRange("step", "no gate has run on this batch");
  missing_ = numTokens() * options_.topK;
  std::fill_n(slotState_.begin(), missing_, SlotState::kMissing);
}

/** Slots are in range, still missing, and distinct. */
void StepBuffers::checkReplySlots(IntView slots) const {
  const int64_t all = numTokens() * options_.topK;
  std::vector<bool> taken(static_cast<size_t>(all));
  for (int64_t i = 0; i < slots.size; ++i) {
    checkRange(at("slots", i), slots[i], 0, all - 1);
    const auto slot = static_cast<size_t>(slots[i]);
    if (taken[slot] || slotState_[slot] != SlotState::kMissing) {
      failRange(at("slots", i), "the row of slot " + std::to_string(slot) + " is already there");
    }
    taken[slot] = true;
  }
}

void StepBuffers::unpackReply(ByteView frame, IntView slots, IntView entryCount, CombineMode mode) {
  ReplyFrame reply;
  try {
    parseReply(frame, reply);
  } catch (const BadFrame& error) {
    failRange("reply", error.what());
  }
  if (reply.status != ReplyStatus::kOk)
    failRange("reply", "status " + std::to_string(static_cast<int>(reply.status)) + " has no rows");
  int64_t entries = 0;
  for (int64_t r = 0; r < entryCount.size; ++r) {
    checkRange(at("entryCount", r), entryCount[r], 1, options_.topK);
    entries += entryCount[r];
  }
  if (entries != slots.size)
    failRange("slots", std::to_string(slots.size) + " entries, expected " + std::to_string(entries));
  const int64_t expected = mode == CombineMode::kExact ? slots.size : entryCount.size;
  if (reply.numRows != static_cast<uint64_t>(expected) || reply.rows.size != expected * rowBytes()) {
    failRange("reply", std::to_string(reply.numRows) + " rows in " + std::to_string(reply.rows.size) +
                           " bytes, expected " + std::to_string(expected) + " in " +
                           std::to_string(expected * rowBytes()));
  }
  checkReplySlots(slots);

  const uint8_t* source = reply.rows.data;
  int64_t entry = 0;
  for (int64_t r = 0; r < entryCount.size; ++r) {
    for (int64_t i = 0; i < entryCount[r]; ++i, ++entry) {
      const bool hasRow = mode == CombineMode::kExact || i == 0;
      slotState_[static_cast<size_t>(slots[entry])] = mode == CombineMode::kExact ? SlotState::kWeighted
                                                      : i == 0                    ? SlotState::kSum
                                                                                  : SlotState::kCovered;
      if (!hasRow) continue;
      std::memcpy(expertRows_.as<uint8_t>() + slots[entry] * rowBytes(), source, static_cast<size_t>(rowBytes()));
      source += rowBytes();
    }
  }
  missing_ -= slots.size;
}

}  // namespace guildhall
