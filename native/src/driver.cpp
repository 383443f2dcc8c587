#include "guildhall/driver.h"

#include <stdexcept>

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

std::exception_ptr stoppedError() { return std::make_exception_ptr(std::runtime_error("the runtime has stopped")); }

void drop(std::unique_ptr<Job> job) {
  Job* const raw = job.get();
  raw->done(std::move(job), stoppedError());
}

}  // namespace

Driver::Driver() : driverThread_([this] { loop(false); }) {}

Driver::~Driver() { stop(); }

void Driver::submit(Lane lane, std::unique_ptr<Job> job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!stopping_) {
      queues_[static_cast<size_t>(lane)].push_back(std::move(job));
      if (lane == Lane::kBackground && !backgroundStarted_) {
        backgroundStarted_ = true;
        backgroundThread_ = std::thread([this] {
          lowerPriority();
          loop(true);
        });
      }
    }
  }
  if (job) return drop(std::move(job));
  (lane == Lane::kBackground ? background_ : foreground_).notify_one();
}

void Driver::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
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
  while (auto job = take(background)) execute(std::move(job));
}

/** The next job, or null when the driver stops. */
std::unique_ptr<Job> Driver::take(bool background) {
  std::unique_lock<std::mutex> lock(mutex_);
  const size_t first = background ? 2 : 0;
  const size_t last = background ? 2 : 1;
  for (;;) {
    if (stopping_) return nullptr;
    for (size_t lane = first; lane <= last; ++lane) {
      if (queues_[lane].empty()) continue;
      auto job = std::move(queues_[lane].front());
      queues_[lane].pop_front();
      return job;
    }
    (background ? background_ : foreground_).wait(lock);
  }
}

void Driver::execute(std::unique_ptr<Job> job) {
  Job* const raw = job.get();
  std::exception_ptr error;
  try {
    raw->run();
  } catch (...) {
    error = std::current_exception();
  }
  raw->done(std::move(job), error);
}

}  // namespace guildhall
