#include "guildhall/probe.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "guildhall/check.h"
#include "probe_loops.h"

namespace guildhall {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMaxThreads = 1024;
constexpr int64_t kMaxMilliseconds = 60000;
/** Work between two looks at the clock: about 50 µs. */
constexpr int64_t kReadChunk = int64_t{1} << 21;
constexpr int64_t kPeakRounds = 20000;

probes::Peak peakOf(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::kFma:
      return probes::fmaPeak();
    case ProbeKind::kBf16:
      return probes::bf16Peak();
    case ProbeKind::kVnni:
      return probes::vnniPeak();
    case ProbeKind::kRead:
      break;
  }
  return {};
}

/** One thread's share: what it did and when. */
struct Share {
  int64_t work = 0;
  Clock::time_point start;
  Clock::time_point end;
};

/** Runs `piece(thread)`, which returns the work that it did, on all threads at once for the given time. */
template <typename Piece>
double rateOf(int64_t threads, int64_t milliseconds, const Piece& piece) {
  std::vector<Share> shares(static_cast<size_t>(threads));
  std::atomic<int64_t> waiting{threads};
  const auto work = [&](int64_t thread) {
    Share& share = shares[static_cast<size_t>(thread)];
    waiting.fetch_sub(1);
    while (waiting.load() > 0) std::this_thread::yield();
    share.start = Clock::now();
    const auto deadline = share.start + std::chrono::milliseconds(milliseconds);
    do {
      share.work += piece(thread);
      share.end = Clock::now();
    } while (share.end < deadline);
  };
  std::vector<std::thread> helpers;
  for (int64_t thread = 1; thread < threads; ++thread) helpers.emplace_back(work, thread);
  work(0);
  for (auto& helper : helpers) helper.join();
  double rate = 0;
  for (const Share& share : shares) {
    rate += static_cast<double>(share.work) / std::chrono::duration<double>(share.end - share.start).count();
  }
  return rate;
}

double readRate(int64_t threads, int64_t milliseconds, const uint8_t* data, int64_t size) {
  const int64_t part = size / threads / probes::kReadBlock * probes::kReadBlock;
  if (part == 0) failRange("data", std::to_string(size) + " bytes are too few for " + std::to_string(threads) + " threads");
  const probes::ReadLoop loop = probes::readLoop();
  std::vector<int64_t> positions(static_cast<size_t>(threads) * 8, 0);
  std::atomic<uint64_t> sink{0};
  return rateOf(threads, milliseconds, [&](int64_t thread) {
    int64_t& at = positions[static_cast<size_t>(thread) * 8];
    const int64_t count = std::min(kReadChunk, part - at);
    sink.fetch_xor(loop(data + thread * part + at, count), std::memory_order_relaxed);
    at += count;
    if (at == part) at = 0;
    return count;
  });
}

}  // namespace

bool probeSupported(ProbeKind kind) { return kind == ProbeKind::kRead || peakOf(kind).loop != nullptr; }

double probe(ProbeKind kind, int64_t threads, int64_t milliseconds, const uint8_t* data, int64_t size) {
  checkRange("threads", threads, 1, kMaxThreads);
  checkRange("milliseconds", milliseconds, 1, kMaxMilliseconds);
  if (kind == ProbeKind::kRead) return readRate(threads, milliseconds, data, size);
  const probes::Peak peak = peakOf(kind);
  if (peak.loop == nullptr) failRange("kind", "this CPU has no such instructions");
  return rateOf(threads, milliseconds, [&](int64_t) {
    peak.loop(kPeakRounds);
    return kPeakRounds * probes::kRoundInstructions * peak.operations;
  });
}

}  // namespace guildhall
