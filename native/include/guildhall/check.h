#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "guildhall/error.h"

namespace guildhall {

/** Throws a range error unless low <= value <= high. */
inline void checkRange(const std::string& path, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return;
  failRange(path, std::to_string(value) + " is outside [" + std::to_string(low) + ", " + std::to_string(high) + "]");
}

/** Product of sizes; throws a range error past 2^46 (64 TiB), so that no later product of bytes overflows. */
inline int64_t checkedProduct(const std::string& path, std::initializer_list<int64_t> sizes) {
  constexpr int64_t kLimit = int64_t{1} << 46;
  int64_t product = 1;
  for (const int64_t size : sizes) {
    if (size > 0 && product > kLimit / size) failRange(path, "too large");
    product *= size;
  }
  return product;
}

/** Largest count of heads, layers, experts and the like. */
constexpr int64_t kMaxCount = int64_t{1} << 20;

}  // namespace guildhall
