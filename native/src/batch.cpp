#include <algorithm>
#include <string>
#include <vector>

#include "guildhall/check.h"
#include "guildhall/step_buffers.h"

namespace guildhall {

namespace {

constexpr int64_t kMaxContext = int64_t{1} << 30;

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
    checkRange(at("stateSlot", i), spec.stateSlot[i], -1, (int64_t{1} << 31) - 1);
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

void checkSlots(const BatchSpec& spec) {
  std::vector<int32_t> slots;
  for (int64_t i = 0; i < spec.stateSlot.size; ++i) {
    if (spec.stateSlot[i] >= 0) slots.push_back(spec.stateSlot[i]);
  }
  checkDistinct("stateSlot", std::move(slots));
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

std::vector<int32_t> copyOf(const IntView& view) { return {view.data, view.data + view.size}; }

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
  mode_ = copyOf(spec.mode);
  pageTable_ = copyOf(spec.pageTable);
  maxPages_ = spec.maxPages;
  largestPage_ = largestPage;
  smallestSlot_ = *std::min_element(stateSlot_.begin(), stateSlot_.end());
  largestSlot_ = *std::max_element(stateSlot_.begin(), stateSlot_.end());
}

BatchView Batch::view() const {
  BatchView view;
  view.numSeqs = static_cast<int32_t>(rowStart_.size());
  view.rowStart = rowStart_.data();
  view.rowCount = rowCount_.data();
  view.contextLen = contextLen_.data();
  view.stateSlot = stateSlot_.data();
  view.mode = mode_.data();
  view.pageTable = pageTable_.data();
  view.maxPages = maxPages_;
  return view;
}

}  // namespace guildhall
