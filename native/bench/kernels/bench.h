#pragma once

// What the kernel measurements share: arguments, random data, the loop that times a kernel between two probes of the
// ceiling it is held against.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "context.h"
#include "guildhall/probe.h"

namespace guildhall::bench {

/** `key=value` words of the command line. */
class Arguments {
 public:
  Arguments(int count, char** words);

  /** A whole number from `least`; `fallback` where it is not given. Throws std::invalid_argument. */
  int64_t number(const std::string& key, int64_t fallback, int64_t least = 1) const;
  std::string text(const std::string& key, const std::string& fallback) const;

 private:
  std::map<std::string, std::string> values_;
};

/** A kernel that can be called over and over. */
struct Kernel {
  /** One call. `call` counts up, so that calls can take turns with data that no cache holds. */
  std::function<void(int64_t call)> run;
  /** Bytes of weights, keys, values or state that one call has to move. */
  double bytes = 0;
  /** Multiplications and additions of one call. */
  double flops = 0;
};

/** Everything that a kernel is made with. */
struct Setup {
  CpuContextPtr cpu;
  WeightFormat format = WeightFormat::kBf16;
};

Setup makeSetup(const Arguments& arguments);

/** Values from -1 to 1 times `scale`, the same for the same seed. */
std::vector<float> randomValues(int64_t count, float scale, uint64_t seed);

/** A random weight [n, k] of deviation about 1/sqrt(k). */
PackedLinear randomLinear(const Setup& setup, int64_t n, int64_t k, uint64_t seed);

/** How many copies of `bytes` are needed so that none is in a cache when its turn comes again. */
int64_t copiesBeyondCaches(int64_t bytes);

// Each makes the kernel of its name from the arguments; see the usage text in main.cpp.
Kernel linearKernel(const Arguments& arguments, const Setup& setup);
Kernel expertsKernel(const Arguments& arguments, const Setup& setup);
Kernel attentionKernel(const Arguments& arguments, const Setup& setup);
Kernel deltaKernel(const Arguments& arguments, const Setup& setup);

}  // namespace guildhall::bench
