// Thread pool and driver: every index once, exceptions, interruptions, order of lanes, stopping with work queued.

#include <chrono>
#include <condition_variable>
#include <limits>
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

/** Wants a turn now and then, and opens regions of its own in it. */
class Interloper final : public Interrupt {
 public:
  Interloper(ThreadPool& pool, Random& random) : pool_(pool), random_(random) {}
  bool wanted() override { return random_.integer(0, 2) == 0; }
  void serve() override {
    ++turns;
    if (fails) throw std::runtime_error("no");
    CHECK(pool_.interrupt() == nullptr);
    std::atomic<int64_t> total{0};
    pool_.run(5, [&](int64_t begin, int64_t, int) { total.fetch_add(begin); });
    CHECK(total.load() == 10);
  }

  int turns = 0;
  bool fails = false;

 private:
  ThreadPool& pool_;
  Random& random_;
};

void testInterrupt() {
  Random random(5);
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    Interloper interloper(pool, random);
    pool.setInterrupt(&interloper);
    for (int round = 0; round < 1000; ++round) {
      pool.setInCall(round % 3 != 0);
      const int64_t n = random.integer(1, 40);
      const int64_t grain = random.integer(1, 7);
      std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
      const auto body = [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)].fetch_add(1);
      };
      interloper.fails = round % 50 == 49;
      bool caught = false;
      try {
        pool.run(n, body, grain);
      } catch (const std::runtime_error&) {
        caught = true;
      }
      CHECK(!caught || interloper.fails);
      CHECK(pool.interrupt() == &interloper);
      for (const auto& count : seen) CHECK(count.load() <= 1 && (caught || count.load() == 1));
    }
    CHECK(interloper.turns > 1000);
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
  TestJob(Log& log, std::string name, std::function<void()> body = nullptr,
          const std::atomic<bool>* cancelled = nullptr)
      : log_(log), name_(std::move(name)), body_(std::move(body)), cancelled_(cancelled) {}
  void run() override {
    if (body_) body_();
  }
  void done(std::unique_ptr<Job>, std::exception_ptr error) noexcept override {
    log_.add(name_ + (error ? " failed" : ""));
  }
  bool cancelled() const override { return cancelled_ != nullptr && cancelled_->load(); }

 private:
  Log& log_;
  std::string name_;
  std::function<void()> body_;
  const std::atomic<bool>* cancelled_;
};

/** Blocks the driver until it is opened. */
class Gate {
 public:
  void open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass(bool tells = true) {
    std::unique_lock<std::mutex> lock(mutex_);
    entered_ = entered_ || tells;
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

/** A driver, a pool that it may interrupt, and a prefill job of many chunks whose threads stand in their first ones. */
struct Prefilling {
  explicit Prefilling(int threads) : pool(threads) {
    driver.submit(Lane::kPrefill, std::make_unique<TestJob>(
                                      log, "prefill",
                                      [this] {
                                        pool.setInterrupt(&driver);
                                        pool.run(100, [this](int64_t, int64_t, int thread) {
                                          gate.pass(thread == 0);
                                          std::this_thread::sleep_for(std::chrono::microseconds(50));
                                          chunks.fetch_add(1);
                                        });
                                      },
                                      &cancelled));
    gate.awaitEntered();
  }

  void decode(const std::string& name) {
    driver.submit(Lane::kDecode, std::make_unique<TestJob>(log, name, [this] {
      pool.setInterrupt(nullptr);
      pool.run(3, [](int64_t, int64_t, int) {});
      pool.setInterrupt(&driver);
    }));
  }

  using Names = std::vector<std::string>;

  Log log;
  Gate gate;
  std::atomic<bool> cancelled{false};
  std::atomic<int> chunks{0};
  ThreadPool pool;
  Driver driver;
};

void testDecodeInsidePrefill() {
  for (int threads = 1; threads <= 3; ++threads) {
    Prefilling p(threads);
    p.decode("decode 1");
    p.decode("decode 2");
    p.gate.open();
    CHECK((p.log.await(3) == Prefilling::Names{"decode 1", "decode 2", "prefill"}));
    CHECK(p.chunks.load() == 100);
    CHECK(p.driver.prefillPauses().count == 1 && p.driver.prefillPauses().decodeJobs == 2);
    CHECK(p.driver.prefillPauses().ms > 0);
  }
}

void testPrefillWithoutTimeWaits() {
  Prefilling p(2);
  p.driver.limitPrefill(0, false);
  p.gate.open();
  p.decode("decode 1");
  CHECK(p.log.await(1).back() == "decode 1");
  // Prefill stands still; brief calls take its place meanwhile, and jobs of decode go on.
  while (!p.driver.runInline([] {})) std::this_thread::yield();
  const int before = p.chunks.load();
  p.decode("decode 2");
  CHECK(p.log.await(2).back() == "decode 2");
  CHECK(p.chunks.load() == before && before < 100);
  p.driver.limitPrefill(std::numeric_limits<double>::infinity(), false);
  CHECK(p.log.await(3).back() == "prefill");
  CHECK(p.chunks.load() == 100);
}

void testWaitingPrefillEnds() {
  for (const bool stops : {false, true}) {
    Prefilling p(2);
    p.driver.limitPrefill(0, false);
    p.gate.open();
    while (!p.driver.runInline([] {})) std::this_thread::yield();
    if (stops) {
      p.driver.stop();
    } else {
      p.cancelled.store(true);
      p.driver.recheck();
    }
    CHECK(p.log.await(1).back() == "prefill failed");
    CHECK(p.chunks.load() < 100);
  }
}

void testLanesAlternate() {
  Prefilling p(2);
  // Prefill has time left: decode waits for its end.
  p.driver.limitPrefill(1e6, true);
  p.decode("decode");
  p.gate.open();
  CHECK((p.log.await(2) == Prefilling::Names{"prefill", "decode"}));
  // Its time is up: decode goes first, and prefill goes on by itself after it.
  Prefilling q(2);
  q.driver.limitPrefill(0, true);
  q.decode("decode");
  q.gate.open();
  CHECK((q.log.await(2) == Prefilling::Names{"decode", "prefill"}));
}

}  // namespace

int main() {
  testEveryIndexOnce();
  testException();
  testInterrupt();
  testDecodeInsidePrefill();
  testPrefillWithoutTimeWaits();
  testWaitingPrefillEnds();
  testLanesAlternate();
  testLaneOrder();
  testStop();
  return 0;
}
