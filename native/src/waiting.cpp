#include "waiting.h"

#include <chrono>

#if defined(__linux__)
#include <climits>
#include <ctime>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace guildhall {

namespace {

constexpr int64_t kSpinUs = 20;

uint64_t nanoseconds() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

uint64_t measureSpinTicks() {
#if defined(__x86_64__)
  constexpr uint64_t kMeasureNs = 100'000;
  const uint64_t begunNs = nanoseconds();
  const uint64_t begun = ticks();
  uint64_t ns = 0;
  while (ns < kMeasureNs) ns = nanoseconds() - begunNs;
  return (ticks() - begun) * (kSpinUs * 1000) / ns;
#elif defined(__aarch64__)
  uint64_t frequency;
  __asm__ __volatile__("mrs %0, cntfrq_el0" : "=r"(frequency));
  return frequency * kSpinUs / 1'000'000;
#else
  return kSpinUs * 1000;
#endif
}

}  // namespace

uint64_t ticks() {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  uint64_t count;
  __asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(count));
  return count;
#else
  return nanoseconds();
#endif
}

uint64_t spinTicks() {
  static const uint64_t value = measureSpinTicks();
  return value;
}

#if defined(__linux__)

void futexWait(std::atomic<uint32_t>& word, uint32_t expected, int64_t timeoutUs) {
  timespec limit{timeoutUs / 1'000'000, timeoutUs % 1'000'000 * 1000};
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, timeoutUs < 0 ? nullptr : &limit, nullptr, 0);
}

void futexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

#else

void futexWait(std::atomic<uint32_t>& word, uint32_t expected, int64_t timeoutUs) {
  if (timeoutUs < 0) return word.wait(expected);
  spinUntil([&] { return word.load() != expected; });
}

void futexWakeAll(std::atomic<uint32_t>& word) { word.notify_all(); }

#endif

}  // namespace guildhall
