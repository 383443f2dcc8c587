#include "slab_heap.h"

#include <algorithm>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace guildhall {

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kSlabBytes = int64_t{64} << 20;
constexpr int64_t kSmallest = int64_t{32} << 10;
/** More than this has a mapping of its own: it wastes less than an eighth of it. */
constexpr int64_t kLargest = int64_t{16} << 20;

int64_t roundUp(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

#if defined(__linux__)
void* mapHugePages(int64_t bytes) {
  const auto size = static_cast<size_t>(roundUp(bytes, kHugePage));
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

void unmapHugePages(void* data, int64_t bytes) { munmap(data, static_cast<size_t>(roundUp(bytes, kHugePage))); }

bool SlabHeap::fits(int64_t bytes) { return bytes >= kSmallest && bytes <= kLargest; }
#else
void* mapHugePages(int64_t) { throw std::bad_alloc(); }
void unmapHugePages(void*, int64_t) {}

bool SlabHeap::fits(int64_t) { return false; }
#endif

SlabHeap& SlabHeap::ofProcess() {
  // Never destroyed: buffers of other static objects may outlive it otherwise.
  static SlabHeap* const heap = new SlabHeap;
  return *heap;
}

void* SlabHeap::take(int64_t bytes) {
  const int64_t size = roundUp(bytes, 64);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (void* const block = reuse(size)) {
    std::memset(block, 0, static_cast<size_t>(size));
    return block;
  }
  return carve(size);
}

void* SlabHeap::reuse(int64_t size) {
  const auto found = free_.find(size);
  if (found == free_.end()) return nullptr;
  void* const block = found->second.back();
  found->second.pop_back();
  if (found->second.empty()) free_.erase(found);
  ++slabOf(block)->second.liveBlocks;
  return block;
}

void* SlabHeap::carve(int64_t size) {
  auto slab = std::find_if(slabs_.begin(), slabs_.end(),
                           [&](const auto& entry) { return entry.second.used + size <= kSlabBytes; });
  if (slab == slabs_.end()) slab = slabs_.emplace(static_cast<uint8_t*>(mapHugePages(kSlabBytes)), Slab{}).first;
  uint8_t* const block = slab->first + slab->second.used;
  slab->second.used += size;
  ++slab->second.liveBlocks;
  return block;
}

void SlabHeap::give(void* block, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto slab = slabOf(block);
  if (--slab->second.liveBlocks == 0) return dropSlab(slab->first);
  free_[roundUp(bytes, 64)].push_back(block);
}

void SlabHeap::dropSlab(uint8_t* base) {
  for (auto list = free_.begin(); list != free_.end();) {
    auto& blocks = list->second;
    blocks.erase(std::remove_if(blocks.begin(), blocks.end(),
                                [&](void* block) { return block >= base && block < base + kSlabBytes; }),
                 blocks.end());
    list = blocks.empty() ? free_.erase(list) : std::next(list);
  }
  slabs_.erase(base);
  unmapHugePages(base, kSlabBytes);
}

std::map<uint8_t*, SlabHeap::Slab>::iterator SlabHeap::slabOf(void* block) {
  return std::prev(slabs_.upper_bound(static_cast<uint8_t*>(block)));
}

}  // namespace guildhall
