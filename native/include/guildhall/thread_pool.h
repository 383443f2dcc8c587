#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "guildhall/parallel.h"

namespace guildhall {

/**
 * Fork-join pool. One thread, the driver, opens regions; the others take chunks of them. A region never waits for
 * a helper that is still asleep: helpers join while it is open and the driver takes whatever is left.
 *
 * Helpers spin for at most 20 µs, and only between regions inside one native call (`setInCall`); else they sleep
 * on a futex.
 */
class ThreadPool final : public ParallelFor {
 public:
  /** `threads` includes the driver, which the pool does not create. At least 1. */
  explicit ThreadPool(int threads);
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  void run(int64_t n, FunctionRef<void(int64_t, int64_t, int)> body, int64_t grain = 1) override;
  int threads() const override { return static_cast<int>(helpers_.size()) + 1; }

  /** While a native call runs on the driver, helpers may spin between its regions. */
  void setInCall(bool inCall) { inCall_.store(inCall, std::memory_order_relaxed); }

 private:
  struct Region {
    FunctionRef<void(int64_t, int64_t, int)>* body = nullptr;
    int64_t n = 0;
    int64_t grain = 1;
  };

  void helperLoop(int thread);
  uint32_t awaitEpoch(uint32_t seen);
  bool tryEnter(uint32_t epoch);
  void leave();
  void takeChunks(int thread);
  void awaitHelpers();

  Region region_;
  std::atomic<int64_t> next_{0};
  /** Bits 63..32 the epoch, bit 31 open, bits 30..0 helpers inside. */
  std::atomic<uint64_t> gate_{0};
  std::atomic<uint32_t> epoch_{0};
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<uint32_t> leaveSignal_{0};
  std::atomic<bool> inCall_{false};
  std::atomic<bool> stop_{false};
  std::mutex errorMutex_;
  std::exception_ptr error_;
  std::vector<std::thread> helpers_;
};

}  // namespace guildhall
