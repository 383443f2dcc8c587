// The ceilings' probes: every kind that the CPU has gives a rate, reads stay inside their data, arguments are checked.

#include <cmath>

#include <sys/mman.h>
#include <unistd.h>

#include "guildhall/error.h"
#include "guildhall/probe.h"
#include "ops/check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

constexpr ProbeKind kKinds[] = {ProbeKind::kRead, ProbeKind::kFma, ProbeKind::kBf16, ProbeKind::kVnni};

/** Memory whose last byte is followed by a page that may not be touched. */
class GuardedBytes {
 public:
  explicit GuardedBytes(int64_t size) : page_(sysconf(_SC_PAGESIZE)), pages_((size + page_ - 1) / page_) {
    const auto length = static_cast<size_t>((pages_ + 1) * page_);
    base_ = static_cast<uint8_t*>(mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK(base_ != MAP_FAILED);
    CHECK(mprotect(base_ + pages_ * page_, static_cast<size_t>(page_), PROT_NONE) == 0);
    data = base_ + pages_ * page_ - size;
  }
  ~GuardedBytes() { munmap(base_, static_cast<size_t>((pages_ + 1) * page_)); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  uint8_t* data = nullptr;

 private:
  int64_t page_;
  int64_t pages_;
  uint8_t* base_ = nullptr;
};

void testRates() {
  const GuardedBytes bytes(1 << 20);
  for (const ProbeKind kind : kKinds) {
    if (!probeSupported(kind)) continue;
    for (int64_t threads = 1; threads <= 3; ++threads) {
      const double rate = probe(kind, threads, 2, bytes.data, 1 << 20);
      CHECK(std::isfinite(rate) && rate > 0);
    }
  }
}

void testReadsStayInside() {
  for (const int64_t size : {int64_t{1024}, int64_t{3 * 1024}, int64_t{3 * 1024 + 7}, int64_t{(1 << 21) + 5000}}) {
    const GuardedBytes bytes(size);
    for (int64_t threads = 1; threads <= 3 && size / threads >= 1024; ++threads) {
      CHECK(probe(ProbeKind::kRead, threads, 1, bytes.data, size) > 0);
    }
  }
}

void refuses(const std::string& path, ProbeKind kind, int64_t threads, int64_t milliseconds, int64_t size) {
  const std::vector<uint8_t> bytes(4096);
  try {
    probe(kind, threads, milliseconds, bytes.data(), size);
  } catch (const InvalidArgument& error) {
    CHECK_MSG(std::string(error.what()).starts_with(path + ": "), error.what());
    return;
  }
  CHECK_MSG(false, path + " was accepted");
}

void testArguments() {
  refuses("threads", ProbeKind::kRead, 0, 1, 4096);
  refuses("threads", ProbeKind::kRead, 1025, 1, 4096);
  refuses("milliseconds", ProbeKind::kRead, 1, 0, 4096);
  refuses("milliseconds", ProbeKind::kRead, 1, 60001, 4096);
  refuses("data", ProbeKind::kRead, 1, 1, 1023);
  refuses("data", ProbeKind::kRead, 4, 1, 4095);
  for (const ProbeKind kind : kKinds) {
    if (!probeSupported(kind)) refuses("kind", kind, 1, 1, 4096);
  }
}

}  // namespace

int main() {
  testRates();
  testReadsStayInside();
  testArguments();
  return 0;
}
