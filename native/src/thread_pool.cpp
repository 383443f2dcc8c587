#include "guildhall/thread_pool.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace guildhall {

namespace {

constexpr auto kSpinTime = std::chrono::microseconds(20);
constexpr uint64_t kOpen = 1ull << 31;
constexpr uint64_t kInsideMask = kOpen - 1;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

/** Spins until `done()` or until the spin time is over; says whether it was done. */
template <typename Done>
bool spinUntil(Done done) {
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  for (;;) {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      relax();
    }
    if (std::chrono::steady_clock::now() >= end) return done();
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  helpers_.reserve(static_cast<size_t>(threads > 1 ? threads - 1 : 0));
  for (int i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { helperLoop(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (auto& helper : helpers_) helper.join();
}

void ThreadPool::run(int64_t n, FunctionRef<void(int64_t, int64_t, int)> body, int64_t grain) {
  if (n <= 0) return;
  if (helpers_.empty() || n <= grain) {
    for (int64_t begin = 0; begin < n; begin += grain) body(begin, begin + grain < n ? begin + grain : n, 0);
    return;
  }
  region_ = {&body, n, grain};
  error_ = nullptr;
  next_.store(0, std::memory_order_relaxed);
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  gate_.store(static_cast<uint64_t>(epoch) << 32 | kOpen, std::memory_order_release);
  epoch_.store(epoch);  // sequentially consistent, against the sleepers' count
  if (sleepers_.load() > 0) epoch_.notify_all();

  takeChunks(0);
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  awaitHelpers();
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::helperLoop(int thread) {
  uint32_t seen = 0;
  for (;;) {
    seen = awaitEpoch(seen);
    if (stop_.load()) return;
    if (!tryEnter(seen)) continue;
    takeChunks(thread);
    leave();
  }
}

/** Waits until the epoch differs from `seen` and returns it. */
uint32_t ThreadPool::awaitEpoch(uint32_t seen) {
  const auto changed = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
  for (;;) {
    if (inCall_.load(std::memory_order_relaxed)) {
      spinUntil([&] { return changed() || !inCall_.load(std::memory_order_relaxed); });
    }
    if (changed()) return epoch_.load(std::memory_order_acquire);
    sleepers_.fetch_add(1);
    epoch_.wait(seen);
    sleepers_.fetch_sub(1);
  }
}

bool ThreadPool::tryEnter(uint32_t epoch) {
  uint64_t gate = gate_.load(std::memory_order_acquire);
  while ((gate >> 32) == epoch && (gate & kOpen) != 0) {
    if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) return true;
  }
  return false;
}

void ThreadPool::leave() {
  const uint64_t before = gate_.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & kOpen) == 0 && (before & kInsideMask) == 1) {
    leaveSignal_.fetch_add(1);
    leaveSignal_.notify_one();
  }
}

void ThreadPool::takeChunks(int thread) {
  const Region region = region_;
  try {
    for (;;) {
      const int64_t begin = next_.fetch_add(region.grain, std::memory_order_relaxed);
      if (begin >= region.n) return;
      const int64_t end = begin + region.grain < region.n ? begin + region.grain : region.n;
      (*region.body)(begin, end, thread);
    }
  } catch (...) {
    next_.store(region.n, std::memory_order_relaxed);  // nobody starts another chunk
    const std::lock_guard<std::mutex> lock(errorMutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::awaitHelpers() {
  const auto empty = [&] { return (gate_.load(std::memory_order_acquire) & kInsideMask) == 0; };
  while (!spinUntil(empty)) {
    const uint32_t signal = leaveSignal_.load();
    if (empty()) return;
    leaveSignal_.wait(signal);
  }
}

}  // namespace guildhall
