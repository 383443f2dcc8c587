#include "guildhall/transfers.h"

#include <algorithm>
#include <utility>

#include "guildhall/crc32c.h"

namespace guildhall {

namespace {

OwnedFrame makeBytes(int64_t size) {
  OwnedFrame bytes;
  // Not cleared: every byte is written.
  bytes.data.reset(new uint8_t[static_cast<size_t>(size)]);
  bytes.size = size;
  return bytes;
}

}  // namespace

std::vector<PoolCopy> exportPages(const KvPool& pool, const std::vector<int32_t>& pages, int64_t group) {
  const int64_t pageBytes = pool.pageBytes();
  std::vector<PoolCopy> copies(pages.size() / static_cast<size_t>(group));
  for (size_t j = 0; j < copies.size(); ++j) {
    PoolCopy& copy = copies[j];
    copy.bytes = makeBytes(group * pageBytes);
    for (int64_t i = 0; i < group; ++i) {
      uint8_t* const to = copy.bytes.data.get() + i * pageBytes;
      pool.readPage(pages[j * static_cast<size_t>(group) + static_cast<size_t>(i)], to);
      // While the page is still in the cache.
      copy.checksum = crc32c(to, pageBytes, copy.checksum);
    }
  }
  return copies;
}

PoolCopy exportState(const StatePool& pool, int64_t slot) {
  PoolCopy copy;
  copy.bytes = makeBytes(pool.slotBytes());
  pool.readSlot(slot, copy.bytes.data.get());
  copy.checksum = crc32c(copy.bytes.data.get(), copy.bytes.size);
  return copy;
}

PageImport::PageImport(std::shared_ptr<KvPool> pool, std::vector<int32_t> pages, std::vector<ByteView> parts)
    : pool_(std::move(pool)), pages_(std::move(pages)), parts_(std::move(parts)) {}

bool PageImport::step() {
  const int64_t pageBytes = pool_->pageBytes();
  const size_t group = parts_.empty() ? 1 : pages_.size() / parts_.size();
  const auto most = static_cast<size_t>(std::max<int64_t>(1, kImportStepBytes / pageBytes));
  const size_t end = std::min(pages_.size(), next_ + most);
  for (; next_ < end; ++next_) {
    const uint8_t* const part = parts_[next_ / group].data;
    pool_->writePage(pages_[next_], part + static_cast<int64_t>(next_ % group) * pageBytes);
  }
  return next_ < pages_.size();
}

StateImport::StateImport(std::shared_ptr<StatePool> pool, int64_t slot, ByteView data)
    : pool_(std::move(pool)), slot_(slot), data_(data) {}

bool StateImport::step() {
  const int64_t size = std::min(kImportStepBytes, data_.size - next_);
  pool_->writeSlot(slot_, next_, data_.data + next_, size);
  next_ += size;
  return next_ < data_.size;
}

}  // namespace guildhall
