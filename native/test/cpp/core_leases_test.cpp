// Core leases between threads and processes: one holder a core, what a dead process held comes back, pools that share a
// table get their work done.

#include <csignal>
#include <set>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guildhall/core_leases.h"
#include "guildhall/error.h"
#include "guildhall/thread_pool.h"
#include "ops/check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

/** A table in memory that forked processes share. */
class Table {
 public:
  Table() : fd_(memfd_create("leases", 0)) {
    CHECK(fd_ >= 0 && ftruncate(fd_, CoreLeases::tableBytes()) == 0);
    CoreLeases::format(fd_);
  }
  ~Table() { close(fd_); }
  int fd() const { return fd_; }

 private:
  int fd_;
};

int freeCores(CoreLeases& leases) {
  int count = 0;
  for (const int32_t holder : leases.holders()) count += holder == 0 ? 1 : 0;
  return count;
}

void testTakeAndGive() {
  const Table table;
  CoreLeases leases(table.fd());
  const auto cores = static_cast<int>(leases.cores().size());
  CHECK(cores >= 1);
  CHECK(leases.tryTake(leases.cores().back()) == leases.cores().back());
  std::set<int> taken = {leases.cores().back()};
  for (int i = 1; i < cores; ++i) taken.insert(leases.tryTake(-1));
  CHECK(static_cast<int>(taken.size()) == cores);
  std::thread([&] {
    CHECK(leases.tryTake(-1) == -1);
    CHECK(leases.take(0, 500) == -1);
  }).join();
  for (const int32_t holder : leases.holders()) CHECK(holder == static_cast<int32_t>(getpid()));
  for (const int core : taken) leases.give(core);
  CHECK(freeCores(leases) == cores);
}

void testLimit() {
  const Table table;
  CoreLeases leases(table.fd(), 1);
  CHECK(leases.cores().size() == 1);
  CHECK(leases.tryTake(-1) == leases.cores().front());
  std::thread([&] { CHECK(leases.tryTake(-1) == -1); }).join();
  leases.give(leases.cores().front());
}

/** A process that is killed while it holds every core, and one that is killed while it waits. */
void testDeadHolder() {
  const Table table;
  CoreLeases leases(table.fd());
  const auto cores = static_cast<int>(leases.cores().size());
  for (int round = 0; round < 20; ++round) {
    int ready[2];
    CHECK(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) {
      CoreLeases own(table.fd());
      for (int i = 0; i < cores; ++i) {
        if (own.tryTake(-1) < 0) _exit(1);
      }
      (void)!write(ready[1], "x", 1);
      for (;;) own.take(0, 10'000);
    }
    char byte = 0;
    CHECK(read(ready[0], &byte, 1) == 1);
    CHECK(freeCores(leases) == 0);
    for (const int32_t holder : leases.holders()) CHECK(holder == child);
    CHECK(leases.tryTake(-1) == -1);
    kill(child, SIGKILL);
    CHECK(waitpid(child, nullptr, 0) == child);
    close(ready[0]);
    close(ready[1]);
    CHECK(freeCores(leases) == cores);
    const int core = leases.tryTake(-1);
    CHECK(core >= 0);
    leases.give(core);
  }
}

/** Several pools of several threads on one table: every index once, whatever the leases say. */
void testPoolsShare() {
  const Table table;
  constexpr int kPools = 3;
  std::vector<std::thread> drivers;
  for (int p = 0; p < kPools; ++p) {
    drivers.emplace_back([&] {
      ThreadPool pool(3, std::make_shared<CoreLeases>(table.fd()));
      for (int call = 0; call < 60; ++call) {
        pool.setInCall(true);
        for (int region = 0; region < 10; ++region) {
          std::vector<std::atomic<int>> seen(37);
          pool.run(37, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)].fetch_add(1);
          });
          for (const auto& count : seen) CHECK(count.load() == 1);
        }
        pool.setInCall(false);
      }
    });
  }
  for (auto& driver : drivers) driver.join();
  CoreLeases leases(table.fd());
  CHECK(freeCores(leases) == static_cast<int>(leases.cores().size()));
}

void testBadFiles() {
  const auto refused = [](int fd) {
    try {
      CoreLeases leases(fd);
      return false;
    } catch (const InvalidArgument&) {
      return true;
    }
  };
  CHECK(refused(-1));
  const int empty = memfd_create("empty", 0);
  CHECK(refused(empty));
  CHECK(ftruncate(empty, CoreLeases::tableBytes()) == 0);
  CHECK(refused(empty));
  close(empty);
}

}  // namespace

int main() {
  testTakeAndGive();
  testLimit();
  testDeadHolder();
  testPoolsShare();
  testBadFiles();
  return 0;
}
