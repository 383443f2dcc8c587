#include "guildhall/driver.h"

#include <algorithm>
#include <stdexcept>

#include "waiting.h"

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace guildhall {

namespace {

/** Lowers the calling thread's priority, so that packing never competes with a forward for a core. */
void lowerPriority() {
#if defined(__linux__)
  const auto thread = static_cast<id_t>(syscall(SYS_gettid));
  setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + 10);
#endif
}

/** Later than any time at which a job may end. */
constexpr uint64_t kRunning = uint64_t{1} << 63;
constexpr uint64_t kNoLimit = ~uint64_t{0};

double ticksPerMs() { return static_cast<double>(spinTicks()) * 50; }

std::exception_ptr stoppedError() { return std::make_exception_ptr(std::runtime_error("the runtime has stopped")); }

void drop(std::unique_ptr<Job> job) {
  Job* const raw = job.get();
  raw->done(std::move(job), stoppedError());
}

}  // namespace

Driver::Driver() : prefillEnds_(kNoLimit) {
  spinTicks();
  driverThread_ = std::thread([this] { loop(false); });
}

Driver::~Driver() { stop(); }

void Driver::submit(Lane lane, std::unique_ptr<Job> job) {
  const bool background = lane == Lane::kBackground;
  bool wake = background;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!stopping_.load()) {
      queues_[static_cast<size_t>(lane)].push_back(std::move(job));
      if (!background) {
        inSequence_.store(ticks() < endedAt_.load(std::memory_order_relaxed) + spinTicks(), std::memory_order_relaxed);
        waiting_.fetch_add(1);
        if (lane == Lane::kDecode) decodeWaiting_.fetch_add(1);
        wake = driverSleeps_;
      } else if (!backgroundStarted_) {
        backgroundStarted_ = true;
        backgroundThread_ = std::thread([this] {
          lowerPriority();
          loop(true);
        });
      }
    }
  }
  if (job) return drop(std::move(job));
  if (wake) (background ? background_ : foreground_).notify_one();
}

bool Driver::runInline(const std::function<void()>& work) {
  const auto setRunning = [this](bool running) {
    const std::lock_guard<std::mutex> lock(mutex_);
    running_ = running;
    return driverSleeps_ && !running;
  };
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (running_ || waiting_.load() > 0 || stopping_.load()) return false;
    running_ = true;
  }
  try {
    work();
  } catch (...) {
    if (setRunning(false)) foreground_.notify_one();
    throw;
  }
  if (setRunning(false)) foreground_.notify_one();
  return true;
}

void Driver::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_.store(true);
  }
  foreground_.notify_all();
  background_.notify_all();
  if (driverThread_.joinable()) driverThread_.join();
  if (backgroundThread_.joinable()) backgroundThread_.join();
  for (auto& queue : queues_) {
    while (!queue.empty()) {
      auto job = std::move(queue.front());
      queue.pop_front();
      drop(std::move(job));
    }
  }
}

void Driver::loop(bool background) {
  while (auto job = take(background)) {
    if (!background) endedAt_.store(kRunning, std::memory_order_relaxed);
    execute(std::move(job), background);
    if (!background) awaitSoon();
  }
}

/** Spins for the next job of a sequence. */
void Driver::awaitSoon() {
  endedAt_.store(ticks(), std::memory_order_relaxed);
  if (!inSequence_.load(std::memory_order_relaxed)) return;
  spinUntil([&] { return waiting_.load(std::memory_order_relaxed) > 0 || stopping_.load(std::memory_order_relaxed); });
}

/** The next job, or null when the driver stops. */
std::unique_ptr<Job> Driver::take(bool background) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    // A call that runs inline has the driver's place: it tells when it is over.
    if (!running_ || background) {
      if (stopping_.load()) return nullptr;
      if (auto job = pop(background)) {
        running_ = running_ || !background;
        return job;
      }
    }
    if (background) {
      background_.wait(lock);
    } else {
      driverSleeps_ = true;
      foreground_.wait(lock);
      driverSleeps_ = false;
    }
  }
}

/** The first job of the first lane that has one, or null. Under the mutex. */
std::unique_ptr<Job> Driver::pop(bool background) {
  const size_t first = background ? 2 : 0;
  const size_t last = background ? 2 : 1;
  for (size_t lane = first; lane <= last; ++lane) {
    if (queues_[lane].empty()) continue;
    auto job = std::move(queues_[lane].front());
    queues_[lane].pop_front();
    if (!background) waiting_.fetch_sub(1);
    if (lane == 0) decodeWaiting_.fetch_sub(1);
    if (lane == 1) current_ = job.get();
    return job;
  }
  return nullptr;
}

void Driver::execute(std::unique_ptr<Job> job, bool background) {
  Job* const raw = job.get();
  std::exception_ptr error;
  try {
    raw->run();
  } catch (...) {
    error = std::current_exception();
  }
  if (!background) {
    current_ = nullptr;
    // Before anybody hears of the end: what follows may run inline.
    const std::lock_guard<std::mutex> lock(mutex_);
    running_ = false;
  }
  raw->done(std::move(job), error);
}

void Driver::limitPrefill(double ms, bool alternate) {
  const double ticksLeft = std::max(ms, 0.0) * ticksPerMs();
  const bool limited = ticksLeft < static_cast<double>(kRunning);
  alternate_.store(alternate, std::memory_order_relaxed);
  prefillEnds_.store(limited ? ticks() + static_cast<uint64_t>(ticksLeft) : kNoLimit);
  recheck();
}

void Driver::recheck() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (driverSleeps_) foreground_.notify_one();
}

PrefillPauses Driver::prefillPauses() const {
  const uint64_t since = pausedSince_.load();
  const uint64_t now = ticks();
  const uint64_t running = since == 0 || now < since ? 0 : now - since;
  return {pauses_.load(), nestedJobs_.load(), static_cast<double>(pausedTicks_.load() + running) / ticksPerMs()};
}

/** Whether decode jobs wait for prefill to use up its time. */
bool Driver::decodeHeld(uint64_t now) const {
  const uint64_t ends = prefillEnds_.load(std::memory_order_relaxed);
  return alternate_.load(std::memory_order_relaxed) && ends != kNoLimit && now < ends;
}

bool Driver::wanted() {
  if (current_ == nullptr) return false;
  if (stopping_.load(std::memory_order_relaxed) || current_->cancelled()) return true;
  const uint64_t now = ticks();
  if (decodeWaiting_.load(std::memory_order_relaxed) > 0) return !decodeHeld(now);
  return !alternate_.load(std::memory_order_relaxed) && now >= prefillEnds_.load(std::memory_order_relaxed);
}

void Driver::serve() {
  const Job* const job = current_;
  const uint64_t begun = ticks();
  pauses_.fetch_add(1);
  pausedSince_.store(begun);
  while (auto nested = takeNested()) runNested(std::move(nested));
  pausedSince_.store(0);
  pausedTicks_.fetch_add(ticks() - begun);
  if (stopping_.load()) throw std::runtime_error("the runtime has stopped");
  if (job->cancelled()) throw std::runtime_error("the step was cancelled");
}

/** The next decode job that goes before the prefill job, or null when that goes on. Waits while it may not. */
std::unique_ptr<Job> Driver::takeNested() {
  const auto goesOn = [this] {
    return stopping_.load() || current_->cancelled() || decodeWaiting_.load() > 0 || alternate_.load() ||
           ticks() < prefillEnds_.load();
  };
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    if (stopping_.load() || current_->cancelled()) return nullptr;
    if (decodeWaiting_.load() > 0 && !decodeHeld(ticks())) return pop(false);
    if (goesOn()) return nullptr;
    lock.unlock();
    spinUntil(goesOn);
    lock.lock();
    // Brief calls may run inline while this one waits.
    running_ = false;
    while (running_ || !goesOn()) {
      driverSleeps_ = true;
      foreground_.wait(lock);
      driverSleeps_ = false;
    }
    running_ = true;
  }
}

/** What a decode job takes does not count as prefill's time. */
void Driver::runNested(std::unique_ptr<Job> job) {
  Job* const raw = job.get();
  uint64_t ends = prefillEnds_.load();
  const uint64_t begun = ticks();
  nestedJobs_.fetch_add(1);
  std::exception_ptr error;
  try {
    raw->run();
  } catch (...) {
    error = std::current_exception();
  }
  if (ends != kNoLimit) prefillEnds_.compare_exchange_strong(ends, ends + (ticks() - begun));
  raw->done(std::move(job), error);
}

}  // namespace guildhall
