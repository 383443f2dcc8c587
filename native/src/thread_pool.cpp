#include "guildhall/thread_pool.h"

#include "waiting.h"

namespace guildhall {

namespace {

/**
 * Value of `offered_` when no chunk is left. Every thread takes it below once or twice in a region at most, and there
 * are no more than 1024 threads, so that it stays positive.
 */
constexpr int64_t kNone = 1 << 16;
/** How long a helper that found no free core waits before it looks again. */
constexpr int64_t kCorelessUs = 200;

}  // namespace

ThreadPool::ThreadPool(int threads, std::shared_ptr<CoreLeases> leases)
    : leases_(std::move(leases)),
      driverClaim_(leases_.get(), threads > 1 ? CoreClaim::Binding::kStay : CoreClaim::Binding::kInCall),
      offered_(kNone) {
  spinTicks();
  helpers_.reserve(static_cast<size_t>(threads > 1 ? threads - 1 : 0));
  for (int i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { helperLoop(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  wakeUp_.fetch_add(1);
  futexWakeAll(wakeUp_);
  for (auto& helper : helpers_) helper.join();
}

void ThreadPool::setInCall(bool inCall) {
  if (inCall) {
    driverClaim_.holdOrGoOn();
    inCall_.store(true, std::memory_order_relaxed);
  } else {
    inCall_.store(false, std::memory_order_relaxed);
    driverClaim_.drop();
  }
}

void ThreadPool::run(int64_t n, FunctionRef<void(int64_t, int64_t, int)> body, int64_t grain) {
  if (n <= 0) return;
  Interrupt* const interrupt = interrupt_;
  if (interrupt != nullptr && interrupt->wanted()) serve(*interrupt);
  const Region region{&body, n, grain, (n + grain - 1) / grain};
  if (helpers_.empty() || serial_ || n <= grain) return runSerial(region, interrupt);
  for (int64_t left = region.chunks;;) {
    left = runChunks(region, left, interrupt);
    if (left == 0) return;
    serve(*interrupt);
  }
}

void ThreadPool::runSerial(const Region& region, Interrupt* interrupt) {
  for (int64_t begin = 0; begin < region.n;) {
    const int64_t end = begin + region.grain < region.n ? begin + region.grain : region.n;
    (*region.body)(begin, end, 0);
    begin = end;
    if (begin < region.n && interrupt != nullptr && interrupt->wanted()) serve(*interrupt);
  }
}

/** Runs the last `left` chunks of a region; returns how many of them an interruption has left. */
int64_t ThreadPool::runChunks(const Region& region, int64_t left, Interrupt* interrupt) {
  region_ = region;
  done_.store(0, std::memory_order_relaxed);
  offered_.store(kNone + left);  // sequentially consistent, against sleptBefore_
  wakeSleepers();

  int64_t withdrawn = 0;
  const int64_t taken = takeChunks(0, interrupt, withdrawn);
  awaitChunks(left - withdrawn - taken);
  if (!failed_.load(std::memory_order_relaxed)) return withdrawn;
  failed_.store(false, std::memory_order_relaxed);
  const std::exception_ptr error = std::exchange(error_, nullptr);
  std::rethrow_exception(error);
}

/** Between two chunks: lets the other work have the pool. */
void ThreadPool::serve(Interrupt& interrupt) {
  const bool inCall = inCall_.load(std::memory_order_relaxed);
  interrupt_ = nullptr;
  if (inCall) setInCall(false);
  const auto restore = [&] {
    if (inCall) setInCall(true);
    interrupt_ = &interrupt;
  };
  try {
    interrupt.serve();
  } catch (...) {
    restore();
    throw;
  }
  restore();
}

void ThreadPool::helperLoop(int thread) {
  CoreClaim claim(leases_.get(), CoreClaim::Binding::kStay);
  while (awaitRegion(claim)) {
    int64_t withdrawn = 0;
    const int64_t taken = takeChunks(thread, nullptr, withdrawn);
    if (taken == 0) continue;
    done_.fetch_add(taken);  // sequentially consistent, against driverSleeps_
    if (driverSleeps_.load() != 0) {
      driverSleeps_.store(0);
      futexWakeAll(driverSleeps_);
    }
  }
}

bool ThreadPool::available() const { return offered_.load() > kNone; }

/** Waits until chunks are offered and, with leases, a core is free for them. False when the pool ends. */
bool ThreadPool::awaitRegion(CoreClaim& claim) {
  for (;;) {
    if (inCall_.load(std::memory_order_relaxed)) {
      spinUntil([&] { return available() || !inCall_.load(std::memory_order_relaxed); });
    }
    if (stop_.load()) return false;
    if (available()) {
      if (claim.tryHold()) return true;
      futexWait(wakeUp_, wakeUp_.load(), kCorelessUs);
      continue;
    }
    claim.drop();
    const uint32_t generation = wakeUp_.load();
    announceSleep(generation);
    if (!available() && !stop_.load()) futexWait(wakeUp_, generation);
  }
}

/**
 * Runs chunks until none is left, or until `interrupt` wants its turn, which takes back what nobody has begun; returns how
 * many it ran.
 */
int64_t ThreadPool::takeChunks(int thread, Interrupt* interrupt, int64_t& withdrawn) {
  int64_t taken = 0;
  for (;; ++taken) {
    if (taken > 0 && interrupt != nullptr && interrupt->wanted()) {
      const int64_t left = offered_.exchange(kNone) - kNone;
      withdrawn = left > 0 ? left : 0;
      return taken;
    }
    const int64_t left = offered_.fetch_sub(1) - kNone;
    if (left <= 0) return taken;
    // After an exception the chunks that are left are only counted.
    if (failed_.load(std::memory_order_relaxed)) continue;
    const int64_t begin = (region_.chunks - left) * region_.grain;
    const int64_t end = begin + region_.grain < region_.n ? begin + region_.grain : region_.n;
    try {
      (*region_.body)(begin, end, thread);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(errorMutex_);
      if (!error_) error_ = std::current_exception();
      failed_.store(true, std::memory_order_relaxed);
    }
  }
}

/** Waits until helpers have done `chunks` chunks. */
void ThreadPool::awaitChunks(int64_t chunks) {
  const auto all = [&] { return done_.load() == chunks; };
  while (!spinUntil(all)) {
    driverSleeps_.store(1);
    if (all()) break;
    futexWait(driverSleeps_, 1);
  }
  driverSleeps_.store(0, std::memory_order_relaxed);
}

void ThreadPool::announceSleep(uint32_t generation) {
  const uint32_t next = generation + 1;
  uint32_t seen = sleptBefore_.load();
  while (static_cast<int32_t>(next - seen) > 0 && !sleptBefore_.compare_exchange_weak(seen, next)) {
  }
}

/** Wakes those who went to sleep since the last wake-up. One is enough, however long they take to wake. */
void ThreadPool::wakeSleepers() {
  const uint32_t generation = wakeUp_.load();
  if (sleptBefore_.load() != generation + 1) return;
  wakeUp_.store(generation + 1);
  futexWakeAll(wakeUp_);
}

}  // namespace guildhall
