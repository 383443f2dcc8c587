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
  if (options.kernel == KvKernel::kDot && options.format == KvFormat::kF32) {
    failRange("options.format", "f32 pages have no dot kernel");
  }
  // Bounds every product below: dimensions are padded to units, and no element takes more than 8 bytes.
  const int64_t dims = (options.headDim + kKvUnitLanes - 1) / kKvUnitLanes * kKvUnitLanes;
  checkedProduct("options",
                 {options.numPages, options.numLayers, options.numKvHeads, dims, 2 * kPageTokens * int64_t{8}});
  layout_ = {options.numLayers, options.numKvHeads, options.headDim, options.format, options.kernel};
  const int64_t bytes = checkedProduct("options", {options.numPages, layout_.pageBytes()});
  data_ = Buffer(bytes, MemoryKind::kKv, std::move(ledger));
}

void KvPool::copyPage(int64_t from, int64_t to) {
  if (from != to) std::memcpy(page(to), page(from), static_cast<size_t>(pageBytes()));
}

void KvPool::readPage(int64_t index, uint8_t* out) const {
  std::memcpy(out, page(index), static_cast<size_t>(pageBytes()));
}

void KvPool::writePage(int64_t index, const uint8_t* data) {
  std::memcpy(page(index), data, static_cast<size_t>(pageBytes()));
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

void StatePool::readSlot(int64_t index, uint8_t* out) const {
  std::memcpy(out, slot(index), static_cast<size_t>(slotBytes()));
}

void StatePool::writeSlot(int64_t index, int64_t offset, const uint8_t* data, int64_t size) {
  std::memcpy(reinterpret_cast<uint8_t*>(slot(index)) + offset, data, static_cast<size_t>(size));
}

}  // namespace guildhall
