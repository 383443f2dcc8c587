#include "guildhall/core_leases.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <string>

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guildhall/error.h"

namespace guildhall {

namespace {

constexpr int kSlots = 1024;
constexpr uint64_t kMagic = 0x3173657361656c67;  // "gleases1"
/** How long the driver waits for a core before it goes on without. */
constexpr int64_t kDriverWaitUs = 1000;
/** Rounds over the cores within a bounded wait: any of them may be the first to become free. */
constexpr int kWaitRounds = 4;

struct alignas(64) Slot {
  pthread_mutex_t mutex;
  /** Who holds it, for people; the mutex is what counts. */
  std::atomic<int32_t> holder;
};
static_assert(sizeof(Slot) == 64);

}  // namespace

/** As it lies in shared memory. Processes of one build use a file; another layout has another magic or size. */
struct LeaseTable {
  alignas(64) uint64_t magic;
  uint32_t slots;
  uint32_t mutexBytes;
  Slot slot[kSlots];
};

namespace {

LeaseTable* mapTable(int fd) {
  struct stat status{};
  if (fstat(fd, &status) != 0) failRange("fd", std::string("is not an open file: ") + std::strerror(errno));
  if (!S_ISREG(status.st_mode) || status.st_size != static_cast<off_t>(sizeof(LeaseTable))) {
    failRange("fd", "is not a file of " + std::to_string(sizeof(LeaseTable)) + " bytes");
  }
  void* const data = mmap(nullptr, sizeof(LeaseTable), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) failRange("fd", std::string("cannot be mapped: ") + std::strerror(errno));
  return static_cast<LeaseTable*>(data);
}

std::vector<int> allowedCores() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int core = 0; core < std::min(kSlots, CPU_SETSIZE); ++core) {
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    }
  }
  if (cores.empty()) cores.push_back(0);
  return cores;
}

timespec deadlineIn(int64_t us) {
  timespec at{};
  clock_gettime(CLOCK_MONOTONIC, &at);
  const int64_t ns = at.tv_nsec + us * 1000;
  return {at.tv_sec + ns / 1'000'000'000, ns % 1'000'000'000};
}

}  // namespace

int64_t CoreLeases::tableBytes() { return sizeof(LeaseTable); }

void CoreLeases::format(int fd) {
  LeaseTable* const table = mapTable(fd);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  for (Slot& slot : table->slot) {
    pthread_mutex_init(&slot.mutex, &attributes);
    slot.holder.store(0);
  }
  pthread_mutexattr_destroy(&attributes);
  table->slots = kSlots;
  table->mutexBytes = sizeof(pthread_mutex_t);
  table->magic = kMagic;
  munmap(table, sizeof(LeaseTable));
}

CoreLeases::CoreLeases(int fd, int64_t most) : table_(mapTable(fd)), cores_(allowedCores()), binds_(true) {
  if (table_->magic != kMagic || table_->slots != kSlots || table_->mutexBytes != sizeof(pthread_mutex_t)) {
    munmap(table_, sizeof(LeaseTable));
    failRange("fd", "is not a table of core leases of this version");
  }
  if (most > 0 && most < static_cast<int64_t>(cores_.size())) {
    cores_.resize(static_cast<size_t>(most));
    binds_ = false;
  }
}

CoreLeases::~CoreLeases() { munmap(table_, sizeof(LeaseTable)); }

bool CoreLeases::lock(int core, int64_t limitUs) {
  Slot& slot = table_->slot[core];
  int status = pthread_mutex_trylock(&slot.mutex);
  if (status == EBUSY && limitUs > 0) {
    const timespec until = deadlineIn(limitUs);
    status = pthread_mutex_clocklock(&slot.mutex, CLOCK_MONOTONIC, &until);
  }
  // Its holder died: nothing but the lock itself needs mending.
  if (status == EOWNERDEAD) status = pthread_mutex_consistent(&slot.mutex);
  if (status != 0) return false;
  slot.holder.store(static_cast<int32_t>(getpid()), std::memory_order_relaxed);
  return true;
}

int CoreLeases::tryTake(int preferred) {
  const auto isOurs = std::find(cores_.begin(), cores_.end(), preferred) != cores_.end();
  if (isOurs && lock(preferred, 0)) return preferred;
  for (const int core : cores_) {
    if (core != preferred && lock(core, 0)) return core;
  }
  return -1;
}

int CoreLeases::take(int preferred, int64_t limitUs) {
  const int64_t each = std::max<int64_t>(1, limitUs / kWaitRounds);
  size_t at = 0;
  while (at < cores_.size() && cores_[at] != preferred) ++at;
  for (int round = 0; round < kWaitRounds; ++round) {
    const int free = tryTake(preferred);
    if (free >= 0) return free;
    const int core = cores_[(at + static_cast<size_t>(round)) % cores_.size()];
    if (lock(core, each)) return core;
  }
  return -1;
}

void CoreLeases::give(int core) {
  Slot& slot = table_->slot[core];
  slot.holder.store(0, std::memory_order_relaxed);
  pthread_mutex_unlock(&slot.mutex);
}

std::vector<int32_t> CoreLeases::holders() {
  std::vector<int32_t> pids;
  for (const int core : cores_) {
    const int32_t holder = table_->slot[core].holder.load(std::memory_order_relaxed);
    const bool free = lock(core, 0);
    if (free) give(core);
    pids.push_back(free ? 0 : holder);
  }
  return pids;
}

bool CoreClaim::tryHold() {
  if (leases_ == nullptr || held_ >= 0) return true;
  return settle(leases_->tryTake(preferred()));
}

void CoreClaim::holdOrGoOn() {
  if (!tryHold()) settle(leases_->take(preferred(), kDriverWaitUs));
}

void CoreClaim::drop() {
  if (held_ < 0) return;
  leases_->give(held_);
  held_ = -1;
  if (mode_ == Binding::kInCall) bind(-1);
}

int CoreClaim::preferred() const { return bound_ >= 0 ? bound_ : sched_getcpu(); }

/** Takes note of a lease, or of none, and says whether there is one. */
bool CoreClaim::settle(int core) {
  held_ = core;
  if (mode_ == Binding::kStay ? core >= 0 : core != sched_getcpu()) bind(core);
  return core >= 0;
}

/** Binds the thread to a core; -1: to none of them in particular. */
void CoreClaim::bind(int core) {
  if (core == bound_ || !leases_->bindsThreads()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (core >= 0) {
    CPU_SET(core, &set);
  } else {
    for (const int each : leases_->cores()) CPU_SET(each, &set);
  }
  if (sched_setaffinity(0, sizeof set, &set) == 0) bound_ = core;
}

}  // namespace guildhall
