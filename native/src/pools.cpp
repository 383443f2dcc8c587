#include "guildhall/pools.h"

#include <cstring>
#include <utility>

#include "guildhall/check.h"

namespace guildhall {

KvPool::KvPool(const KvPoolOptions& options, std::shared_ptr<MemoryLedger> ledger) : options_(options) {
  checkRange("options.numPages", options.numPages, 1, int64_t{1} << 31);
  checkRange("options.numLayers", options.numLayers, 1, kMaxCount);
  checkRange("options.numKvHeads", options.numKvHeads, 1, kMaxCount);
  checkRange("options.headDim", options.headDim, 1, kMaxCount);
  layout_ = {options.numLayers, options.numKvHeads, options.headDim};
  const int64_t bytes = checkedProduct("options", {options.numPages, options.numLayers, options.numKvHeads,
                                                   options.headDim, 2 * kPageTokens, rowFormatBytes(options.format)});
  data_ = Buffer(bytes, MemoryKind::kKv, std::move(ledger));
}

KvView KvPool::view(int64_t layer) const {
  KvView view;
  view.base = data_.as<void>();
  view.bf16 = options_.format == RowFormat::kBf16;
  view.pageStride = layout_.pageElements();
  view.layerOffset = layer * layout_.layerElements();
  view.numKvHeads = options_.numKvHeads;
  view.headDim = options_.headDim;
  return view;
}

void KvPool::copyPage(int64_t from, int64_t to) {
  if (from != to) std::memcpy(page(to), page(from), static_cast<size_t>(pageBytes()));
}

StatePool::StatePool(const StatePoolOptions& options, std::shared_ptr<MemoryLedger> ledger) : options_(options) {
  checkRange("options.numSlots", options.numSlots, 1, int64_t{1} << 31);
  checkRange("options.numLayers", options.numLayers, 1, kMaxCount);
  checkRange("options.numValueHeads", options.numValueHeads, 1, kMaxCount);
  checkRange("options.keyHeadDim", options.keyHeadDim, 1, kMaxCount);
  checkRange("options.valueHeadDim", options.valueHeadDim, 1, kMaxCount);
  checkRange("options.convDim", options.convDim, 1, int64_t{1} << 31);
  checkRange("options.convKernel", options.convKernel, 2, 8);
  const int64_t delta =
      checkedProduct("options", {options.numValueHeads, options.keyHeadDim, options.valueHeadDim, sizeof(float)});
  const int64_t conv = checkedProduct("options", {options.convKernel - 1, options.convDim, sizeof(float)});
  const int64_t bytes = checkedProduct("options", {options.numSlots, options.numLayers, delta + conv});
  data_ = Buffer(bytes, MemoryKind::kStates, std::move(ledger));
}

void StatePool::reset(int64_t index) { std::memset(slot(index), 0, static_cast<size_t>(slotBytes())); }

void StatePool::copy(int64_t from, int64_t to) {
  if (from != to) std::memcpy(slot(to), slot(from), static_cast<size_t>(slotBytes()));
}

}  // namespace guildhall
