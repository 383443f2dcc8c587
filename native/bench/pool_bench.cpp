// Overhead of parallel regions, core leases and waking helpers. Prints one JSON object a line; times in nanoseconds.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <memory>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "guildhall/thread_pool.h"

namespace {

using guildhall::ThreadPool;
using Clock = std::chrono::steady_clock;

double nanoseconds(Clock::time_point from) {
  return std::chrono::duration<double, std::nano>(Clock::now() - from).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/** Busy work of a known length, the same on every thread. */
void work(int iterations) {
  for (int i = 0; i < iterations; ++i) __asm__ __volatile__("" ::: "memory");
}

/** Median time of one region of `chunks` chunks of `iterations` each, `regions` of them in one call. */
double region(ThreadPool& pool, int64_t chunks, int iterations, int regions) {
  std::vector<double> samples;
  for (int round = 0; round < 41; ++round) {
    pool.setInCall(true);
    for (int i = 0; i < 20; ++i) pool.run(chunks, [&](int64_t, int64_t, int) { work(iterations); });
    const auto start = Clock::now();
    for (int i = 0; i < regions; ++i) pool.run(chunks, [&](int64_t, int64_t, int) { work(iterations); });
    samples.push_back(nanoseconds(start) / regions);
    pool.setInCall(false);
  }
  return median(samples);
}

/** Time of a whole call with one region of two chunks after the helpers fell asleep; and the share that they took. */
double sleepingCall(ThreadPool& pool, int iterations, double& helped) {
  std::vector<double> samples;
  int taken = 0;
  for (int round = 0; round < 200; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    const auto start = Clock::now();
    pool.setInCall(true);
    pool.run(8, [&](int64_t, int64_t, int thread) {
      work(iterations);
      if (thread != 0) __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
    });
    pool.setInCall(false);
    samples.push_back(nanoseconds(start));
  }
  helped = taken / (200.0 * 8);
  return median(samples);
}

std::shared_ptr<guildhall::CoreLeases> makeLeases() {
  const int fd = memfd_create("leases", 0);
  if (fd < 0 || ftruncate(fd, guildhall::CoreLeases::tableBytes()) != 0) std::exit(1);
  guildhall::CoreLeases::format(fd);
  auto leases = std::make_shared<guildhall::CoreLeases>(fd);
  close(fd);
  return leases;
}

/** Time of an empty call: what a lease and the wake-up of helpers cost. */
double emptyCall(ThreadPool& pool) {
  const auto start = Clock::now();
  for (int i = 0; i < 20000; ++i) {
    pool.setInCall(true);
    pool.setInCall(false);
  }
  return nanoseconds(start) / 20000;
}

void report(bool withLeases, int threads) {
  ThreadPool one(1, withLeases ? makeLeases() : nullptr);
  ThreadPool pool(threads, withLeases ? makeLeases() : nullptr);
  std::printf("{\"leases\": %s, \"threads\": %d", withLeases ? "true" : "false", threads);
  std::printf(", \"emptyCall\": %.0f", emptyCall(one));
  std::printf(", \"emptyRegion\": %.0f", region(pool, threads, 0, 2000));
  for (const int iterations : {1000, 4000, 40000}) {
    const double alone = region(one, threads, iterations, 40000000 / iterations / 20);
    const double together = region(pool, threads, iterations, 40000000 / iterations / 20);
    std::printf(", \"region%d\": {\"serial\": %.0f, \"pool\": %.0f, \"overhead\": %.0f}", iterations, alone, together,
                together - alone / threads);
  }
  for (const int iterations : {4000, 40000}) {
    double helped = 0;
    const double taken = sleepingCall(pool, iterations, helped);
    std::printf(", \"sleeping%d\": {\"call\": %.0f, \"helped\": %.2f}", iterations, taken, helped);
  }
  std::printf("}\n");
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  report(false, threads);
  report(true, threads);
  return 0;
}
