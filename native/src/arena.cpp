#include "guildhall/arena.h"

#include <algorithm>

namespace guildhall {

namespace {

constexpr int64_t kSmallestBlock = 64 << 10;

}  // namespace

void* Arena::takeBytes(int64_t bytes) {
  const int64_t size = (std::max<int64_t>(bytes, 1) + 63) / 64 * 64;
  if (blocks_.empty() || used_ + size > blocks_.back().bytes()) {
    const int64_t last = blocks_.empty() ? 0 : blocks_.back().bytes();
    blocks_.emplace_back(std::max({size, kSmallestBlock, 2 * last}), MemoryKind::kBuffers, ledger_);
    used_ = 0;
  }
  void* const result = blocks_.back().as<char>() + used_;
  used_ += size;
  return result;
}

void Arena::reset() {
  if (blocks_.size() > 1) {
    int64_t total = 0;
    for (const Buffer& block : blocks_) total += block.bytes();
    blocks_.clear();
    blocks_.emplace_back(total, MemoryKind::kBuffers, ledger_);
  }
  used_ = 0;
}

}  // namespace guildhall
