#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "guildhall/frames.h"
#include "guildhall/pools.h"

namespace guildhall {

/** Bytes of a pool, and their CRC-32C. */
struct PoolCopy {
  OwnedFrame bytes;
  uint32_t checksum = 0;
};

/** One copy for each `group` consecutive entries of `pages`, which are in range and a multiple of it. */
std::vector<PoolCopy> exportPages(const KvPool& pool, const std::vector<int32_t>& pages, int64_t group);
/** `slot` is in range. */
PoolCopy exportState(const StatePool& pool, int64_t slot);

/** Bytes that a step of an import copies at most (or one page): about a millisecond's. */
constexpr int64_t kImportStepBytes = int64_t{4} << 20;

/** Fills pages in steps, between which others may run. Pages are in range; all borrowed parts have the same size. */
class PageImport {
 public:
  PageImport(std::shared_ptr<KvPool> pool, std::vector<int32_t> pages, std::vector<ByteView> parts);
  /** Copies the next pages; returns whether there are more. */
  bool step();

 private:
  std::shared_ptr<KvPool> pool_;
  std::vector<int32_t> pages_;
  std::vector<ByteView> parts_;
  size_t next_ = 0;
};

/** Fills a slot, in range, in steps; `data` has the bytes of a slot. */
class StateImport {
 public:
  StateImport(std::shared_ptr<StatePool> pool, int64_t slot, ByteView data);
  bool step();

 private:
  std::shared_ptr<StatePool> pool_;
  int64_t slot_;
  ByteView data_;
  int64_t next_ = 0;
};

}  // namespace guildhall
