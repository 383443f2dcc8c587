#pragma once

#include <cstdint>
#include <memory>

#include "guildhall/memory.h"
#include "guildhall/ops/kv_layout.h"

namespace guildhall {

struct KvPoolOptions {
  int64_t numPages = 0;
  int64_t numLayers = 0;
  int64_t numKvHeads = 0;
  int64_t headDim = 0;
  KvFormat format = KvFormat::kF32;
  /** Chosen by the backend; arranges the pages. */
  KvKernel kernel = KvKernel::kFma;
};

/**
 * Pages of K and V over all full-attention layers. This class holds them in host memory (layout: KvLayout), which `view`
 * and `page` show to the blocks of the cpu; a device derives from it and replaces what moves pages.
 */
class KvPool {
 public:
  /** Throws InvalidArgument naming `options.…`. */
  KvPool(const KvPoolOptions& options, std::shared_ptr<MemoryLedger> ledger);
  virtual ~KvPool() = default;

  const KvPoolOptions& options() const { return options_; }
  int64_t pageBytes() const { return layout_.pageBytes(); }
  /** `layer` is in range. */
  KvView view(int64_t layer) const { return layout_.view(data_.as<void>(), layer); }
  /** Pages are in range. */
  virtual void copyPage(int64_t from, int64_t to);
  /**
   * pageBytes() bytes out of and into a page in range, in a layout that only the same numerics class reads. Reads come from
   * any thread, beside forwards that do not write the page.
   */
  virtual void readPage(int64_t index, uint8_t* out) const;
  virtual void writePage(int64_t index, const uint8_t* data);
  uint8_t* page(int64_t index) const { return data_.as<uint8_t>() + index * pageBytes(); }

 private:
  KvPoolOptions options_;
  KvLayout layout_;
  Buffer data_;
};

struct StatePoolOptions {
  int64_t numSlots = 0;
  int64_t numLayers = 0;
  int64_t numValueHeads = 0;
  int64_t keyHeadDim = 0;
  int64_t valueHeadDim = 0;
  int64_t convDim = 0;
  int64_t convKernel = 0;
};

/**
 * Per slot and DeltaNet layer: S [Hv][Dk][Dv], then the last kernel-1 raw rows of the convolution, all f32. In host memory,
 * as KvPool is.
 */
class StatePool {
 public:
  /** Throws InvalidArgument naming `options.…`. */
  StatePool(const StatePoolOptions& options, std::shared_ptr<MemoryLedger> ledger);
  virtual ~StatePool() = default;

  const StatePoolOptions& options() const { return options_; }
  int64_t slotFloats() const { return options_.numLayers * layerFloats(); }
  int64_t slotBytes() const { return slotFloats() * static_cast<int64_t>(sizeof(float)); }
  float* slot(int64_t index) const { return data_.as<float>() + index * slotFloats(); }
  /** S of slot 0 in a layer; slots are slotFloats() apart. */
  float* deltaState(int64_t layer) const { return data_.as<float>() + layer * layerFloats(); }
  float* convState(int64_t layer) const { return deltaState(layer) + deltaFloats(); }

  /** Slots are in range. */
  virtual void reset(int64_t slot);
  virtual void copy(int64_t from, int64_t to);
  /** All slotBytes() bytes out of a slot; `size` bytes into it from byte `offset` on. Reads come from any thread. */
  virtual void readSlot(int64_t slot, uint8_t* out) const;
  virtual void writeSlot(int64_t slot, int64_t offset, const uint8_t* data, int64_t size);

 private:
  int64_t deltaFloats() const { return options_.numValueHeads * options_.keyHeadDim * options_.valueHeadDim; }
  int64_t layerFloats() const { return deltaFloats() + (options_.convKernel - 1) * options_.convDim; }

  StatePoolOptions options_;
  Buffer data_;
};

}  // namespace guildhall
