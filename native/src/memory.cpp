#include "guildhall/memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

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

size_t roundUp(int64_t bytes, int64_t unit) { return static_cast<size_t>((bytes + unit - 1) / unit * unit); }

#if defined(__linux__)
/** Maps room for a whole number of huge pages at a multiple of their size. Zero without being touched. */
void* mapAligned(int64_t bytes) {
  const size_t size = roundUp(bytes, kHugePage);
  const size_t room = size + static_cast<size_t>(kHugePage);
  void* const raw = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  char* const begin = static_cast<char*>(raw);
  char* const data =
      begin + (static_cast<uintptr_t>(kHugePage) - reinterpret_cast<uintptr_t>(raw) % kHugePage) % kHugePage;
  if (data != begin) munmap(begin, static_cast<size_t>(data - begin));
  char* const end = data + size;
  if (end != begin + room) munmap(end, static_cast<size_t>(begin + room - end));
  madvise(data, size, MADV_HUGEPAGE);
  return data;
}
#endif

void* allocate(int64_t bytes) {
#if defined(__linux__)
  if (isMapped(bytes)) return mapAligned(bytes);
#endif
  const size_t size = roundUp(bytes, 64);
  void* const data = std::aligned_alloc(64, size);
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, size);
  return data;
}

void release(void* data, int64_t bytes) {
#if defined(__linux__)
  if (isMapped(bytes)) {
    munmap(data, roundUp(bytes, kHugePage));
    return;
  }
#endif
  std::free(data);
}

}  // namespace

Buffer::Buffer(int64_t bytes, MemoryKind kind, std::shared_ptr<MemoryLedger> ledger)
    : bytes_(bytes), kind_(kind), ledger_(std::move(ledger)) {
  if (bytes_ <= 0) return;
  data_ = allocate(bytes_);
  if (ledger_) ledger_->add(kind_, bytes_);
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (ledger_) ledger_->add(kind_, -bytes_);
  release(data_, bytes_);
}

void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(kind_, other.kind_);
  std::swap(ledger_, other.ledger_);
}

}  // namespace guildhall
