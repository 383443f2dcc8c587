// kernel_bench KIND key=value…: times one kernel of the cpu backend and prints one line of JSON. Run by the harness.

#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "bench.h"

namespace guildhall::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kProbeMilliseconds = 80;
constexpr int64_t kReadBytes = int64_t{1} << 30;

constexpr const char* kUsage =
    "usage: kernel_bench KIND [key=value]...\n"
    "  linear    format n k rows\n"
    "  experts   format hidden width experts top tokens\n"
    "  attention heads kv-heads head-dim rows sequences context\n"
    "  delta     key-heads value-heads dim rows sequences mode=recurrent|chunked\n"
    "  all take threads, runs, milliseconds (of one run) and limit=read|fma|bf16|vnni\n";

Kernel makeKernel(const std::string& kind, const Arguments& arguments, const Setup& setup) {
  if (kind == "linear") return linearKernel(arguments, setup);
  if (kind == "experts") return expertsKernel(arguments, setup);
  if (kind == "attention") return attentionKernel(arguments, setup);
  if (kind == "delta") return deltaKernel(arguments, setup);
  throw std::invalid_argument("no kernel " + kind);
}

ProbeKind limitOf(const std::string& name) {
  if (name == "read") return ProbeKind::kRead;
  if (name == "fma") return ProbeKind::kFma;
  if (name == "bf16") return ProbeKind::kBf16;
  if (name == "vnni") return ProbeKind::kVnni;
  throw std::invalid_argument("no limit " + name);
}

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/** Seconds of one call, from calls over at least `milliseconds`. */
double timeCalls(const Kernel& kernel, int64_t milliseconds, int64_t& call) {
  const auto start = Clock::now();
  int64_t calls = 0;
  do {
    kernel.run(call++);
    ++calls;
  } while (secondsSince(start) * 1000 < static_cast<double>(milliseconds));
  return secondsSince(start) / static_cast<double>(calls);
}

void printList(const char* name, const std::vector<double>& values) {
  std::printf("\"%s\":[", name);
  for (size_t i = 0; i < values.size(); ++i) std::printf("%s%.9g", i == 0 ? "" : ",", values[i]);
  std::printf("]");
}

int run(int count, char** words) {
  if (count < 2) throw std::invalid_argument("no kernel");
  const Arguments arguments(count - 2, words + 2);
  const Setup setup = makeSetup(arguments);
  const Kernel kernel = makeKernel(words[1], arguments, setup);
  const ProbeKind limit = limitOf(arguments.text("limit", "read"));
  const int64_t threads = setup.cpu->info.threads;
  // Huge pages, as weights have: small ones read a tenth slower.
  Buffer memory(kReadBytes, MemoryKind::kBuffers, setup.cpu->ledger);
  std::memset(memory.as<uint8_t>(), 1, static_cast<size_t>(kReadBytes));
  const auto ceiling = [&] {
    if (!probeSupported(limit)) return 0.0;
    return probe(limit, threads, kProbeMilliseconds, memory.as<uint8_t>(), kReadBytes);
  };
  // Helpers spin between regions inside a native call; a measurement is one.
  setup.cpu->pool.setInCall(true);
  int64_t call = 0;
  timeCalls(kernel, 50, call);
  std::vector<double> seconds;
  std::vector<double> ceilings;
  for (int64_t i = 0; i < arguments.number("runs", 5); ++i) {
    const double before = ceiling();
    seconds.push_back(timeCalls(kernel, arguments.number("milliseconds", 150), call));
    ceilings.push_back((before + ceiling()) / 2);
  }
  setup.cpu->pool.setInCall(false);
  std::printf("{\"bytes\":%.17g,\"flops\":%.17g,", kernel.bytes, kernel.flops);
  printList("seconds", seconds);
  std::printf(",");
  printList("ceilings", ceilings);
  std::printf("}\n");
  return 0;
}

}  // namespace

}  // namespace guildhall::bench

int main(int count, char** words) {
  try {
    return guildhall::bench::run(count, words);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel_bench: %s\n%s", error.what(), guildhall::bench::kUsage);
    return 2;
  }
}
