/*
 * Preloaded into the peer's process: gives each thread of a ggml graph a core of its own.
 *
 * node-llama-cpp creates ggml's helper threads anew for every call, and the kernel often puts a new one on the core of
 * its creator, where the two take turns at spinning while the other core idles: decoding is then 40 % slower than with
 * `llama-bench`, which keeps its threads. This is what `llama-bench --cpu-strict 1` would do.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static __thread int created = 0;

static void pin(pthread_t thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(thread, sizeof set, &set);
}

static int from_ggml(void *address) {
  Dl_info info;
  return dladdr(address, &info) != 0 && info.dli_fname != NULL && strstr(info.dli_fname, "libggml") != NULL;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  static create_fn real = NULL;
  if (real == NULL) real = (create_fn)dlsym(RTLD_NEXT, "pthread_create");
  if (!from_ggml(__builtin_return_address(0))) return real(thread, attributes, start, argument);
  const int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
  pin(pthread_self(), 0);
  const int result = real(thread, attributes, start, argument);
  if (result == 0) pin(*thread, 1 + created++ % (cores > 1 ? cores - 1 : 1));
  return result;
}
