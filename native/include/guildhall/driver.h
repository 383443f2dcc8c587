#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
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
 *
 * Within a sequence of calls, that is while the next job came soon after the last one, the driver spins for at most
 * 20 µs after a job before it sleeps: to wake a thread costs about as much.
 */
class Driver {
 public:
  Driver();
  ~Driver();
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  /** Queues a job; the future of a job submitted after `stop` is an error. */
  void submit(Lane lane, std::unique_ptr<Job> job);

  /**
   * Runs `work` on the calling thread if the driver has nothing to do, in its place: for work that takes less time than
   * to wake a thread. False, and nothing done, when a foreground job runs or waits or the driver has stopped. What `work`
   * throws comes out here.
   */
  bool runInline(const std::function<void()>& work);

  /** Ends the running jobs, drops the queued ones and joins the threads. May be called more than once. */
  void stop();

 private:
  void loop(bool background);
  std::unique_ptr<Job> take(bool background);
  std::unique_ptr<Job> pop(bool background);
  void awaitSoon();
  void execute(std::unique_ptr<Job> job, bool background);

  std::mutex mutex_;
  std::condition_variable foreground_;
  std::condition_variable background_;
  std::deque<std::unique_ptr<Job>> queues_[3];
  /** Jobs in the two foreground queues. */
  std::atomic<int64_t> waiting_{0};
  /** A foreground job runs, on the driver or inline. Under the mutex. */
  bool running_ = false;
  /** The driver sleeps, or is about to: it must be told of a job. Under the mutex. */
  bool driverSleeps_ = false;
  /** When the last foreground job ended, in ticks, and whether the one after it came within a spin's time. */
  std::atomic<uint64_t> endedAt_{0};
  std::atomic<bool> inSequence_{false};
  std::atomic<bool> stopping_{false};
  bool backgroundStarted_ = false;
  std::thread driverThread_;
  std::thread backgroundThread_;
};

}  // namespace guildhall
