#include "guildhall/memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "slab_heap.h"

namespace guildhall {

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

bool isMapped(int64_t bytes) {
#if defined(__linux__)
  return bytes >= kHugePage;
#else
  static_cast<void>(bytes);
  return false;
#endif
}

/** Weights are read once a step, from memory: they get huge pages even where they are small. */
bool isSlab(int64_t bytes, MemoryKind kind) { return kind == MemoryKind::kWeights && SlabHeap::fits(bytes); }

void* allocate(int64_t bytes, MemoryKind kind) {
  if (isSlab(bytes, kind)) return SlabHeap::ofProcess().take(bytes);
  if (isMapped(bytes)) return mapHugePages(bytes);
  const auto size = static_cast<size_t>((bytes + 63) / 64 * 64);
  void* const data = std::aligned_alloc(64, size);
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, size);
  return data;
}

void release(void* data, int64_t bytes, MemoryKind kind) {
  if (isSlab(bytes, kind)) return SlabHeap::ofProcess().give(data, bytes);
  if (isMapped(bytes)) return unmapHugePages(data, bytes);
  std::free(data);
}

}  // namespace

void mapAhead(const void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_POPULATE_READ)
  constexpr uintptr_t kPage = 4096;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data) / kPage * kPage;
  const uintptr_t end = reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes);
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_READ);
#else
  static_cast<void>(data);
  static_cast<void>(bytes);
#endif
}

Buffer::Buffer(int64_t bytes, MemoryKind kind, std::shared_ptr<MemoryLedger> ledger)
    : bytes_(bytes), kind_(kind), ledger_(std::move(ledger)) {
  if (bytes_ <= 0) return;
  data_ = allocate(bytes_, kind_);
  if (ledger_) ledger_->add(kind_, bytes_);
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (ledger_) ledger_->add(kind_, -bytes_);
  release(data_, bytes_, kind_);
}

void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(kind_, other.kind_);
  std::swap(ledger_, other.ledger_);
}

}  // namespace guildhall
