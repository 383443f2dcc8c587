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

#include "guildhall/parallel.h"

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
  /** Nobody wants the result any more: a prefill job ends with an error where it could be interrupted. Any thread. */
  virtual bool cancelled() const { return false; }
};

/** How often prefill was interrupted, and for how long. */
struct PrefillPauses {
  /** Times that prefill stopped between two chunks for decode jobs or to wait. */
  int64_t count = 0;
  /** Decode jobs that ran in the middle of prefill jobs. */
  int64_t decodeJobs = 0;
  double ms = 0;
};

/**
 * Two threads that take jobs: the driver, which serves the decode and prefill queues in this order, and a
 * low-priority one for background jobs. Jobs of one lane run in the order of their submission.
 *
 * Within a sequence of calls, that is while the next job came soon after the last one, the driver spins for at most
 * 20 µs after a job before it sleeps: to wake a thread costs about as much.
 *
 * A prefill job that computes with this driver as the Interrupt of its pool stops between two chunks for decode jobs,
 * which then run on its stack, and once the time is used up that `limitPrefill` gave it.
 */
class Driver final : public Interrupt {
 public:
  Driver();
  ~Driver() override;
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

  /**
   * Prefill jobs compute for `ms` milliseconds from now, without what decode jobs take in between; then they wait for
   * the next call. Infinity: without limit. With `alternate`, for callers whose decode steps never leave the driver idle,
   * decode jobs wait until the time is used up, if a prefill job runs, and prefill goes on after it while none waits.
   */
  void limitPrefill(double ms, bool alternate);

  /** A job may have been cancelled: prefill that waits looks again. */
  void recheck();

  PrefillPauses prefillPauses() const;

  /** For prefill jobs, on the driver. */
  bool wanted() override;
  /** Runs what goes before prefill now. Throws when the job was cancelled or the driver stops. */
  void serve() override;

  /** Ends the running jobs, prefill where it can be interrupted, drops the queued ones and joins the threads. May be called more than once. */
  void stop();

 private:
  void loop(bool background);
  std::unique_ptr<Job> take(bool background);
  std::unique_ptr<Job> pop(bool background);
  void awaitSoon();
  void execute(std::unique_ptr<Job> job, bool background);
  std::unique_ptr<Job> takeNested();
  bool decodeHeld(uint64_t now) const;
  void runNested(std::unique_ptr<Job> job);

  std::mutex mutex_;
  std::condition_variable foreground_;
  std::condition_variable background_;
  std::deque<std::unique_ptr<Job>> queues_[3];
  /** Jobs in the two foreground queues, and in the first of them. */
  std::atomic<int64_t> waiting_{0};
  std::atomic<int64_t> decodeWaiting_{0};
  /** When prefill's time is used up, in ticks; kNoLimit without one. */
  std::atomic<uint64_t> prefillEnds_;
  std::atomic<bool> alternate_{false};
  /** The job that may be interrupted. Driver thread. */
  const Job* current_ = nullptr;
  std::atomic<int64_t> pauses_{0};
  std::atomic<int64_t> nestedJobs_{0};
  std::atomic<uint64_t> pausedTicks_{0};
  /** When the pause that is under way began, 0 for none. */
  std::atomic<uint64_t> pausedSince_{0};
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
