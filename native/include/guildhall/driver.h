#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

namespace guildhall {

/** Decode goes before prefill; background work runs on a thread of its own, below both. */
enum class Lane : uint8_t { kDecode = 0, kPrefill = 1, kBackground = 2 };

/** A unit of native work. */
class Job {
 public:
  virtual ~Job() = default;
  /** Does the work, on a native thread. */
  virtual void run() = 0;
  /**
   * Called on the same native thread when `run` has returned or thrown (`error`), and, with `error` too, for work
   * that was dropped because the driver stopped. Takes the job over and must not throw.
   */
  virtual void done(std::unique_ptr<Job> self, std::exception_ptr error) noexcept = 0;
};

/**
 * Two threads that take jobs: the driver, which serves the decode and prefill queues in this order, and a
 * low-priority one for background jobs. Jobs of one lane run in the order of their submission.
 */
class Driver {
 public:
  Driver();
  ~Driver();
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  /** Queues a job; the future of a job submitted after `stop` is an error. */
  void submit(Lane lane, std::unique_ptr<Job> job);

  /** Ends the running jobs, drops the queued ones and joins the threads. May be called more than once. */
  void stop();

 private:
  void loop(bool background);
  std::unique_ptr<Job> take(bool background);
  static void execute(std::unique_ptr<Job> job);

  std::mutex mutex_;
  std::condition_variable foreground_;
  std::condition_variable background_;
  std::deque<std::unique_ptr<Job>> queues_[3];
  bool stopping_ = false;
  bool backgroundStarted_ = false;
  std::thread driverThread_;
  std::thread backgroundThread_;
};

}  // namespace guildhall
