#pragma once

#include <memory>

#include "guildhall/backend.h"
#include "guildhall/driver.h"
#include "guildhall/memory.h"

namespace guildhall {

/** A backend with its driver thread and memory ledger. Shared by every object made with it. */
class Runtime {
 public:
  /** Takes the first available backend. Throws InvalidArgument naming `options.…`. */
  explicit Runtime(const RuntimeOptions& options);
  ~Runtime() { stop(); }

  Backend& backend() { return *backend_; }
  Driver& driver() { return driver_; }
  const MemoryLedger& memory() const { return *ledger_; }

  /** Ends running work, drops queued work. Objects stay valid, later work fails. */
  void stop() { driver_.stop(); }

 private:
  std::shared_ptr<MemoryLedger> ledger_;
  std::unique_ptr<Backend> backend_;
  Driver driver_;
};

/** Tells the backend that a short call runs in the driver's place, for its lifetime. */
class InlineCall {
 public:
  explicit InlineCall(Backend& backend) : backend_(backend) { backend_.beginInline(); }
  ~InlineCall() { backend_.endInline(); }
  InlineCall(const InlineCall&) = delete;
  InlineCall& operator=(const InlineCall&) = delete;

 private:
  Backend& backend_;
};

/** Tells the backend that a native call runs, for its lifetime, and who may interrupt it. */
class BackendCall {
 public:
  explicit BackendCall(Backend& backend, Interrupt* interrupt = nullptr) : backend_(backend) {
    backend_.beginCall(interrupt);
  }
  ~BackendCall() { backend_.endCall(); }
  BackendCall(const BackendCall&) = delete;
  BackendCall& operator=(const BackendCall&) = delete;

 private:
  Backend& backend_;
};

}  // namespace guildhall
