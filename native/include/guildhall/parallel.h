#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace guildhall {

/** A borrowed callable: two words, no allocation. The callable must outlive the reference. */
template <typename Signature>
class FunctionRef;

template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  template <typename F, typename = std::enable_if_t<!std::is_same_v<std::decay_t<F>, FunctionRef>>>
  FunctionRef(F&& f)  // NOLINT: implicit on purpose, as with std::function
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}

  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

/** Work that may go between two chunks of a region, on the thread that opened it. */
class Interrupt {
 public:
  virtual ~Interrupt() = default;
  /** Whether `serve` is wanted now; asked before a region and after each chunk, so it must be cheap. */
  virtual bool wanted() = 0;
  /** Called between two chunks, while nobody computes. What it throws ends the region and comes out of `run`. */
  virtual void serve() = 0;
};

/**
 * Splits an index range over the threads of a pool. Kernels take this instead of the pool, so that they can be
 * tested without one. A kernel's result must not depend on how the range is split.
 */
class ParallelFor {
 public:
  virtual ~ParallelFor() = default;

  /**
   * Calls `body(begin, end, thread)` for disjoint ranges that cover [0, n), each at most `grain` long, and returns
   * when all are done. `thread` is in [0, threads()) and is never given to two bodies at once, so that it may index
   * scratch. An exception of a body is rethrown here after the others have ended. Not to be nested.
   */
  virtual void run(int64_t n, FunctionRef<void(int64_t, int64_t, int)> body, int64_t grain = 1) = 0;

  /** Threads that may take part, including the caller. */
  virtual int threads() const = 0;
};

}  // namespace guildhall
