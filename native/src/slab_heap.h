#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace guildhall {

/**
 * Weights in huge pages whatever their size. Matrices of a few hundred KiB would lie in 4 KiB pages, where every page
 * costs a walk and the prefetchers stop; here they lie side by side in large mappings. Blocks that are given back are
 * used again for the same size, and a mapping without blocks is unmapped. Any thread.
 */
class SlabHeap {
 public:
  /** Zeroed memory aligned to 64 bytes. Throws std::bad_alloc. */
  void* take(int64_t bytes);
  /** `bytes` as it was taken. */
  void give(void* block, int64_t bytes);

  static SlabHeap& ofProcess();
  /** Whether blocks of this size belong here. */
  static bool fits(int64_t bytes);

 private:
  struct Slab {
    int64_t used = 0;
    int64_t liveBlocks = 0;
  };

  void* reuse(int64_t size);
  void* carve(int64_t size);
  void dropSlab(uint8_t* base);
  std::map<uint8_t*, Slab>::iterator slabOf(void* block);

  std::mutex mutex_;
  /** By address. */
  std::map<uint8_t*, Slab> slabs_;
  std::map<int64_t, std::vector<void*>> free_;
};

/** Maps room for whole huge pages at a multiple of their size; zero without being touched. Throws std::bad_alloc. */
void* mapHugePages(int64_t bytes);
void unmapHugePages(void* data, int64_t bytes);

}  // namespace guildhall
