#include <algorithm>
#include <string>
#include <vector>

#include "guildhall/check.h"
#include "guildhall/step_buffers.h"

namespace guildhall {

namespace {

constexpr int64_t kMaxContext = int64_t{1} << 30;
constexpr int64_t kMaxSlot = (int64_t{1} << 31) - 1;

std::vector<int32_t> copyOf(const IntView& view) { return {view.data, view.data + view.size}; }

std::string at(const char* name, int64_t index) {
  return std::string("spec.") + name + "[" + std::to_string(index) + "]";
}

void checkLength(const char* name, const IntView& view, int64_t expected) {
  if (view.size == expected) return;
  failRange(std::string("spec.") + name, std::to_string(view.size) + " entries, expected " + std::to_string(expected));
}

void checkLengths(const BatchSpec& spec) {
  const int64_t seqs = spec.rowStart.size;
  checkLength("positions", spec.positions, 3 * spec.tokenIds.size);
  checkLength("rowCount", spec.rowCount, seqs);
  checkLength("contextLen", spec.contextLen, seqs);
  checkLength("stateSlot", spec.stateSlot, seqs);
  checkLength("initState", spec.initState, seqs);
  checkLength("snapshotSlot", spec.snapshotSlot, seqs);
  checkLength("snapshotRows", spec.snapshotRows, seqs);
  checkLength("mode", spec.mode, seqs);
  checkRange("spec.maxPages", spec.maxPages, 0, kMaxContext);
  checkLength("pageTable", spec.pageTable, seqs * spec.maxPages);
}

void checkSequences(const BatchSpec& spec) {
  int64_t next = 0;
  for (int64_t i = 0; i < spec.rowStart.size; ++i) {
    if (spec.rowStart[i] != next)
      failRange(at("rowStart", i), std::to_string(spec.rowStart[i]) + ", expected " + std::to_string(next));
    checkRange(at("rowCount", i), spec.rowCount[i], 1, spec.tokenIds.size - next);
    next += spec.rowCount[i];
    checkRange(at("contextLen", i), spec.contextLen[i], 0, kMaxContext);
    checkRange(at("mode", i), spec.mode[i], 0, 1);
    if (spec.mode[i] == kModeChunked && spec.contextLen[i] % kDeltaChunk != 0) {
      failRange(at("contextLen", i), std::to_string(spec.contextLen[i]) + " is not a multiple of 64 in mode 0");
    }
    checkRange(at("stateSlot", i), spec.stateSlot[i], -1, kMaxSlot);
  }
  if (next != spec.tokenIds.size) {
    failRange("spec.rowCount",
              "covers " + std::to_string(next) + " of " + std::to_string(spec.tokenIds.size) + " rows");
  }
}

/** No two sequences may write the same thing. */
void checkDistinct(const char* name, std::vector<int32_t> values) {
  std::sort(values.begin(), values.end());
  const auto twice = std::adjacent_find(values.begin(), values.end());
  if (twice != values.end())
    failRange(std::string("spec.") + name, std::to_string(*twice) + " is used by two sequences");
}

void checkInit(const BatchSpec& spec, int64_t i) {
  checkRange(at("initState", i), spec.initState[i], kInitZeros, kMaxSlot);
  if (spec.initState[i] == kInitZeros && spec.contextLen[i] != 0) {
    failRange(at("initState", i), "-2 after " + std::to_string(spec.contextLen[i]) + " tokens");
  }
}

/** A chunked state exists between chunks only. */
void checkSnapshot(const BatchSpec& spec, int64_t i) {
  checkRange(at("snapshotSlot", i), spec.snapshotSlot[i], -1, kMaxSlot);
  if (spec.snapshotSlot[i] < 0) return;
  checkRange(at("snapshotRows", i), spec.snapshotRows[i], 1, spec.rowCount[i]);
  const int64_t end = int64_t{spec.contextLen[i]} + spec.snapshotRows[i];
  if (spec.mode[i] == kModeChunked && end % kDeltaChunk != 0) {
    failRange(at("snapshotRows", i), "ends at " + std::to_string(end) + ", not a multiple of 64, in mode 0");
  }
}

/** Nobody reads or writes a slot that a sequence writes; what is only read may be shared. */
void checkSlots(const BatchSpec& spec) {
  std::vector<int32_t> written;
  for (const int32_t slot : copyOf(spec.stateSlot)) {
    if (slot >= 0) written.push_back(slot);
  }
  std::sort(written.begin(), written.end());
  checkDistinct("stateSlot", written);
  const auto has = [&](int32_t slot) { return std::binary_search(written.begin(), written.end(), slot); };
  const auto refuse = [](const char* name, int64_t i, int32_t slot) {
    failRange(at(name, i), std::to_string(slot) + " is written by a sequence of the batch");
  };
  for (int64_t i = 0; i < spec.stateSlot.size; ++i) {
    if (spec.stateSlot[i] < 0) continue;
    checkInit(spec, i);
    checkSnapshot(spec, i);
    const int32_t slot = spec.snapshotSlot[i];
    if (slot < 0) continue;
    if (has(slot)) refuse("snapshotSlot", i, slot);
    written.insert(std::lower_bound(written.begin(), written.end(), slot), slot);
  }
  for (int64_t i = 0; i < spec.stateSlot.size; ++i) {
    if (spec.stateSlot[i] >= 0 && has(spec.initState[i])) refuse("initState", i, spec.initState[i]);
  }
}

/** Checks the entries that the sequences need and returns the largest; -1 without pages. */
int32_t checkPages(const BatchSpec& spec) {
  if (spec.maxPages == 0) return -1;
  std::vector<int32_t> written;
  int32_t largest = -1;
  for (int64_t i = 0; i < spec.rowStart.size; ++i) {
    const int64_t end = int64_t{spec.contextLen[i]} + spec.rowCount[i];
    const int64_t pages = (end + kPageTokens - 1) / kPageTokens;
    if (pages > spec.maxPages) {
      failRange("spec.maxPages",
                std::to_string(spec.maxPages) + ", sequence " + std::to_string(i) + " needs " + std::to_string(pages));
    }
    for (int64_t p = 0; p < pages; ++p) {
      const int32_t page = spec.pageTable[i * spec.maxPages + p];
      if (page < 0) failRange(at("pageTable", i * spec.maxPages + p), std::to_string(page) + " is not a page");
      largest = std::max(largest, page);
      if (p >= spec.contextLen[i] / kPageTokens) written.push_back(page);
    }
  }
  checkDistinct("pageTable", std::move(written));
  return largest;
}

/** `values`, or what `none` says for sequences without a state. */
std::vector<int32_t> ofStates(const BatchSpec& spec, const IntView& values, int32_t none) {
  std::vector<int32_t> out = copyOf(values);
  for (size_t i = 0; i < out.size(); ++i) {
    if (spec.stateSlot[static_cast<int64_t>(i)] < 0) out[i] = none;
  }
  return out;
}

}  // namespace

void Batch::set(const BatchSpec& spec, const StepBuffersOptions& options) {
  checkRange("spec.tokenIds.length", spec.tokenIds.size, 1, options.maxTokens);
  checkLengths(spec);
  checkSequences(spec);
  checkSlots(spec);
  for (int64_t t = 0; t < spec.tokenIds.size; ++t) {
    checkRange(at("tokenIds", t), spec.tokenIds[t], 0, options.vocab - 1);
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t index = axis * spec.tokenIds.size + t;
      checkRange(at("positions", index), spec.positions[index], 0, kMaxContext);
    }
  }
  const int32_t largestPage = checkPages(spec);

  tokenIds_ = copyOf(spec.tokenIds);
  positions_ = copyOf(spec.positions);
  rowStart_ = copyOf(spec.rowStart);
  rowCount_ = copyOf(spec.rowCount);
  contextLen_ = copyOf(spec.contextLen);
  stateSlot_ = copyOf(spec.stateSlot);
  initState_ = ofStates(spec, spec.initState, kInitOwn);
  snapshotSlot_ = ofStates(spec, spec.snapshotSlot, -1);
  snapshotRows_ = copyOf(spec.snapshotRows);
  mode_ = copyOf(spec.mode);
  pageTable_ = copyOf(spec.pageTable);
  maxPages_ = spec.maxPages;
  largestPage_ = largestPage;
  smallestSlot_ = *std::min_element(stateSlot_.begin(), stateSlot_.end());
  largestSlot_ = *std::max_element(stateSlot_.begin(), stateSlot_.end());
  largestInit_ = *std::max_element(initState_.begin(), initState_.end());
  largestSnapshot_ = *std::max_element(snapshotSlot_.begin(), snapshotSlot_.end());
}

BatchView Batch::view() const {
  BatchView view;
  view.numSeqs = static_cast<int32_t>(rowStart_.size());
  view.rowStart = rowStart_.data();
  view.rowCount = rowCount_.data();
  view.contextLen = contextLen_.data();
  view.stateSlot = stateSlot_.data();
  view.initState = initState_.data();
  view.snapshotSlot = snapshotSlot_.data();
  view.snapshotRows = snapshotRows_.data();
  view.mode = mode_.data();
  view.pageTable = pageTable_.data();
  view.maxPages = maxPages_;
  return view;
}

}  // namespace guildhall
