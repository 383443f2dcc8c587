#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "guildhall/core_leases.h"
#include "guildhall/parallel.h"

namespace guildhall {

/**
 * Fork-join pool. One thread, the driver, opens regions; the others take chunks of them. A region never waits for
 * a helper that is still asleep: helpers join while it is open and the driver takes whatever is left.
 *
 * Helpers spin for at most 20 µs, and only between regions inside one native call (`setInCall`); else they sleep
 * on a futex. With core leases a helper takes part only while it holds one, and gives it back when it sleeps.
 */
class ThreadPool final : public ParallelFor {
 public:
  /** `threads` includes the driver, which the pool does not create. At least 1. `leases` may be null. */
  explicit ThreadPool(int threads, std::shared_ptr<CoreLeases> leases = nullptr);
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  void run(int64_t n, FunctionRef<void(int64_t, int64_t, int)> body, int64_t grain = 1) override;
  int threads() const override { return static_cast<int>(helpers_.size()) + 1; }

  /**
   * Brackets a native call, on the driver: takes a core for it, waiting for at most 1 ms. Until it ends helpers may
   * spin between its regions.
   */
  void setInCall(bool inCall);

  /**
   * On the driver, between two regions: who may interrupt the regions that follow; null for nobody. An interruption waits
   * for the chunks that were begun, takes the pool out of the call (`setInCall`) and may open regions of its own, which
   * nobody interrupts. Bits don't change, since they must not depend on how a region is split.
   */
  void setInterrupt(Interrupt* interrupt) { interrupt_ = interrupt; }
  Interrupt* interrupt() const { return interrupt_; }

  /** Between two calls: regions run on the caller's thread alone, whichever that is. */
  void setSerial(bool serial) { serial_ = serial; }

 private:
  struct Region {
    FunctionRef<void(int64_t, int64_t, int)>* body = nullptr;
    int64_t n = 0;
    int64_t grain = 1;
    int64_t chunks = 0;
  };

  void helperLoop(int thread);
  bool awaitRegion(CoreClaim& claim);
  bool available() const;
  int64_t takeChunks(int thread, Interrupt* interrupt, int64_t& withdrawn);
  int64_t runChunks(const Region& region, int64_t left, Interrupt* interrupt);
  void runSerial(const Region& region, Interrupt* interrupt);
  void serve(Interrupt& interrupt);
  void awaitChunks(int64_t chunks);
  void announceSleep(uint32_t generation);
  void wakeSleepers();

  std::shared_ptr<CoreLeases> leases_;
  CoreClaim driverClaim_;
  std::mutex errorMutex_;
  std::exception_ptr error_;
  std::vector<std::thread> helpers_;
  bool serial_ = false;
  Interrupt* interrupt_ = nullptr;

  // On one line: who takes a chunk has the region too.
  /** Chunks that nobody has taken yet, above kNone: threads that come too late take it below that. */
  alignas(64) std::atomic<int64_t> offered_;
  /** Written before chunks are offered; whoever holds a chunk may read it, since the region cannot end before that. */
  Region region_;
  /** Chunks that helpers have done, of the open region. */
  alignas(64) std::atomic<int64_t> done_{0};
  std::atomic<uint32_t> driverSleeps_{0};
  std::atomic<bool> failed_{false};
  /** Read by helpers in their spin, seldom written. */
  alignas(64) std::atomic<bool> inCall_{false};
  std::atomic<bool> stop_{false};
  /** Generation of the helpers' wake-ups: what they sleep on. */
  alignas(64) std::atomic<uint32_t> wakeUp_{0};
  /** Generation after the newest in which a helper went to sleep: a wake-up is due when it is the next one. */
  std::atomic<uint32_t> sleptBefore_{0};
};

}  // namespace guildhall
