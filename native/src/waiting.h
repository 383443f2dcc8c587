#pragma once

#include <atomic>
#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

// How native threads wait: a bounded spin, then a futex. Nothing here allocates or throws.

namespace guildhall {

/** Keeps what one thread writes off the lines that others read. */
constexpr size_t kCacheLine = 64;

/** Tells the processor that this is a spin loop. */
inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

/** A cheap clock that runs evenly on every core: a read costs a few nanoseconds, unlike the system's clock. */
uint64_t ticks();

/** Ticks of the longest spin, 20 µs. The first call measures the clock for 0.1 ms. */
uint64_t spinTicks();

/** Spins until `done()` or until 20 µs are over; says whether it was done. */
template <typename Done>
bool spinUntil(Done done) {
  const uint64_t limit = spinTicks();
  const uint64_t start = ticks();
  for (;;) {
    for (int i = 0; i < 8; ++i) {
      if (done()) return true;
      relax();
    }
    if (ticks() - start >= limit) return done();
  }
}

/** Sleeps while `word` is `expected`, for at most `timeoutUs` (-1: no limit). May return for no reason. */
void futexWait(std::atomic<uint32_t>& word, uint32_t expected, int64_t timeoutUs = -1);
/** Wakes every thread that sleeps on `word`. */
void futexWakeAll(std::atomic<uint32_t>& word);

}  // namespace guildhall
