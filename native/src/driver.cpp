#include "guildhall/driver.h"

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

std::exception_ptr stoppedError() { return std::make_exception_ptr(std::runtime_error("the runtime has stopped")); }

void drop(std::unique_ptr<Job> job) {
  Job* const raw = job.get();
  raw->done(std::move(job), stoppedError());
}

}  // namespace

Driver::Driver() {
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
    // Before anybody hears of the end: what follows may run inline.
    const std::lock_guard<std::mutex> lock(mutex_);
    running_ = false;
  }
  raw->done(std::move(job), error);
}

}  // namespace guildhall
