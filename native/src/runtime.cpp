#include "guildhall/runtime.h"

#include <stdexcept>

#include "guildhall/check.h"

namespace guildhall {

namespace {

constexpr int kMaxThreads = 1024;

const BackendEntry& firstAvailable() {
  for (const BackendEntry& entry : backends()) {
    if (entry.available()) return entry;
  }
  throw std::runtime_error("no backend is available");
}

}  // namespace

const std::vector<BackendEntry>& backends() {
  static const std::vector<BackendEntry> table = {cpuBackend()};
  return table;
}

Runtime::Runtime(const RuntimeOptions& options) : ledger_(std::make_shared<MemoryLedger>()) {
  checkRange("options.threads", options.threads, 1, kMaxThreads);
  backend_ = firstAvailable().create(options, ledger_);
}

}  // namespace guildhall
