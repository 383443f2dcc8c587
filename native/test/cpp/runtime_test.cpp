// Thread pool and driver: every index once, exceptions, order of lanes, stopping with work queued.

#include <condition_variable>
#include <mutex>
#include <stdexcept>

#include "guildhall/driver.h"
#include "guildhall/thread_pool.h"
#include "ops/check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

void testEveryIndexOnce() {
  Random random(3);
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (int round = 0; round < 2000; ++round) {
      pool.setInCall(round % 3 != 0);
      const int64_t n = random.integer(0, 40);
      const int64_t grain = random.integer(1, 7);
      std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
      std::vector<std::atomic<int>> inside(static_cast<size_t>(threads));
      pool.run(
          n,
          [&](int64_t begin, int64_t end, int thread) {
            CHECK(thread >= 0 && thread < threads);
            CHECK(inside[static_cast<size_t>(thread)].fetch_add(1) == 0);
            CHECK(end - begin >= 1 && end - begin <= grain);
            for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)].fetch_add(1);
            inside[static_cast<size_t>(thread)].fetch_sub(1);
          },
          grain);
      for (const auto& count : seen) CHECK(count.load() == 1);
    }
  }
}

void testException() {
  ThreadPool pool(3);
  for (int round = 0; round < 200; ++round) {
    bool caught = false;
    try {
      pool.run(50, [&](int64_t begin, int64_t, int) {
        if (begin == 20 + round % 20) throw std::runtime_error("no");
      });
    } catch (const std::runtime_error& error) {
      caught = std::string(error.what()) == "no";
    }
    CHECK(caught);
    std::atomic<int> total{0};
    pool.run(10, [&](int64_t, int64_t, int) { total.fetch_add(1); });
    CHECK(total.load() == 10);
  }
}

/** What happened to jobs, in order. */
class Log {
 public:
  void add(const std::string& entry) {
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_.push_back(entry);
    changed_.notify_all();
  }
  std::vector<std::string> await(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return entries_.size() >= count; });
    return entries_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> entries_;
};

class TestJob final : public Job {
 public:
  TestJob(Log& log, std::string name, std::function<void()> body = nullptr)
      : log_(log), name_(std::move(name)), body_(std::move(body)) {}
  void run() override {
    if (body_) body_();
  }
  void done(std::unique_ptr<Job>, std::exception_ptr error) noexcept override {
    log_.add(name_ + (error ? " failed" : ""));
  }

 private:
  Log& log_;
  std::string name_;
  std::function<void()> body_;
};

/** Blocks the driver until it is opened. */
class Gate {
 public:
  void open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    entered_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void awaitEntered() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return entered_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  bool entered_ = false;
};

void testLaneOrder() {
  Log log;
  Gate gate;
  Driver driver;
  driver.submit(Lane::kPrefill, std::make_unique<TestJob>(log, "first", [&] { gate.pass(); }));
  gate.awaitEntered();
  driver.submit(Lane::kPrefill, std::make_unique<TestJob>(log, "prefill 1"));
  driver.submit(Lane::kPrefill, std::make_unique<TestJob>(log, "prefill 2", [] { throw std::runtime_error("x"); }));
  driver.submit(Lane::kDecode, std::make_unique<TestJob>(log, "decode 1"));
  driver.submit(Lane::kDecode, std::make_unique<TestJob>(log, "decode 2"));
  // Background work goes on while the driver is busy.
  driver.submit(Lane::kBackground, std::make_unique<TestJob>(log, "background"));
  CHECK(log.await(1).front() == "background");
  gate.open();
  const std::vector<std::string> expected = {"background", "first",     "decode 1",
                                             "decode 2",   "prefill 1", "prefill 2 failed"};
  CHECK(log.await(expected.size()) == expected);
}

void testStop() {
  Log log;
  Gate gate;
  Driver driver;
  driver.submit(Lane::kDecode, std::make_unique<TestJob>(log, "running", [&] { gate.pass(); }));
  gate.awaitEntered();
  driver.submit(Lane::kPrefill, std::make_unique<TestJob>(log, "queued"));
  std::thread stopper([&] { driver.stop(); });
  gate.open();
  stopper.join();
  driver.stop();
  driver.submit(Lane::kDecode, std::make_unique<TestJob>(log, "late"));
  const auto entries = log.await(3);
  CHECK(entries.size() == 3);
  CHECK(entries[0] == "running");
  // The queued job either ran before the stop was seen or was dropped with an error.
  CHECK(entries[1] == "queued failed" || entries[1] == "queued");
  CHECK(entries[2] == "late failed");
}

}  // namespace

int main() {
  testEveryIndexOnce();
  testException();
  testLaneOrder();
  testStop();
  return 0;
}
