#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace guildhall {

struct LeaseTable;

/**
 * The cores of this machine as processes of one user share them: a table in shared memory with a robust mutex for each
 * core, so that the kernel gives back what a process held that crashed. A lease is a right to compute, not a
 * guarantee: who gets none in time goes on without. It belongs to the thread that took it.
 */
class CoreLeases {
 public:
  /** Bytes of a table's file. */
  static int64_t tableBytes();
  /** Writes an empty table into a file of tableBytes() that no other process has open. Throws InvalidArgument (`fd`). */
  static void format(int fd);

  /**
   * Maps a table; the descriptor may be closed afterwards. The cores are those that this process may run on, the
   * first `most` of them where that is above 0 (a quota). Throws InvalidArgument naming `fd`.
   */
  explicit CoreLeases(int fd, int64_t most = 0);
  ~CoreLeases();
  CoreLeases(const CoreLeases&) = delete;
  CoreLeases& operator=(const CoreLeases&) = delete;

  /** Cores that this process may lease. */
  const std::vector<int>& cores() const { return cores_; }
  /** Whether a lease names the very core to run on; not so under a quota, which moves its threads about. */
  bool bindsThreads() const { return binds_; }

  /** A free core, `preferred` if that is one; -1 without. */
  int tryTake(int preferred);
  /** Waits for one for at most `limitUs`. */
  int take(int preferred, int64_t limitUs);
  /** By the thread that took it. */
  void give(int core);
  /** Process that holds each of cores(), 0 where it is free. For people and tests. */
  std::vector<int32_t> holders();

 private:
  bool lock(int core, int64_t limitUs);

  LeaseTable* table_ = nullptr;
  std::vector<int> cores_;
  bool binds_ = false;
};

/** One thread's lease, and the core that the thread is bound to. Used by that thread only. */
class CoreClaim {
 public:
  /**
   * kStay: once it had a core the thread stays there between its calls, and is woken there rather than on the core of
   * who wakes it, as virtual machines tend to do. Threads of a pool must, or they meet on one core. kInCall: only for
   * the call, and only if the core that it woke on is taken.
   */
  enum class Binding : uint8_t { kStay, kInCall };

  explicit CoreClaim(CoreLeases* leases, Binding mode) : leases_(leases), mode_(mode) {}
  ~CoreClaim() { drop(); }
  CoreClaim(const CoreClaim&) = delete;
  CoreClaim& operator=(const CoreClaim&) = delete;

  /** True when the thread may compute: it holds a lease, now or since before, or leases are off. */
  bool tryHold();
  /** Waits a bounded time; afterwards the thread may compute with or without a lease. */
  void holdOrGoOn();
  void drop();

 private:
  int preferred() const;
  bool settle(int core);
  void bind(int core);

  CoreLeases* leases_;
  Binding mode_;
  int held_ = -1;
  int bound_ = -1;
};

}  // namespace guildhall
