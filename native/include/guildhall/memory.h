#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace guildhall {

/**
 * Maps the pages of a range that will be read soon, in one call instead of a fault for every few of them. A hint: what
 * cannot be mapped now is mapped when it is read.
 */
void mapAhead(const void* data, int64_t bytes);

enum class MemoryKind : int { kWeights = 0, kKv = 1, kStates = 2, kBuffers = 3 };

/** Bytes held by each kind of native object of one runtime. Outlives the objects through shared ownership. */
class MemoryLedger {
 public:
  void add(MemoryKind kind, int64_t bytes) {
    bytes_[static_cast<int>(kind)].fetch_add(bytes, std::memory_order_relaxed);
  }
  int64_t bytes(MemoryKind kind) const { return bytes_[static_cast<int>(kind)].load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> bytes_[4] = {};
};

/**
 * Zeroed memory aligned to 64 bytes (2 MiB and huge pages where large), counted in a ledger while it lives.
 * Throws std::bad_alloc.
 */
class Buffer {
 public:
  Buffer() = default;
  Buffer(int64_t bytes, MemoryKind kind, std::shared_ptr<MemoryLedger> ledger);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  void swap(Buffer& other) noexcept;

  void* data_ = nullptr;
  int64_t bytes_ = 0;
  MemoryKind kind_ = MemoryKind::kBuffers;
  std::shared_ptr<MemoryLedger> ledger_;
};

}  // namespace guildhall
