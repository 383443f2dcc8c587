#pragma once

#include <cstdint>
#include <vector>

#include "guildhall/memory.h"

namespace guildhall {

/**
 * Scratch of one native call: bump allocation in blocks that are kept for the next call. Used on the driver thread
 * only. Pointers stay valid until `reset`. Contents are not cleared.
 */
class Arena {
 public:
  explicit Arena(std::shared_ptr<MemoryLedger> ledger) : ledger_(std::move(ledger)) {}

  /** Uninitialised room for `count` values, aligned to 64 bytes. */
  template <typename T>
  T* take(int64_t count) {
    return static_cast<T*>(takeBytes(count * static_cast<int64_t>(sizeof(T))));
  }

  /** Frees everything that was taken; several blocks become one of their total size. */
  void reset();

 private:
  void* takeBytes(int64_t bytes);

  std::shared_ptr<MemoryLedger> ledger_;
  std::vector<Buffer> blocks_;
  int64_t used_ = 0;  // bytes of the last block
};

}  // namespace guildhall
