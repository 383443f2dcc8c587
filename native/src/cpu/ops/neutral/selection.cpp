#include "selection.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

namespace guildhall {

namespace {

/** Past this many, a partition is cheaper than a heap. */
constexpr int64_t kHeapLimit = 256;
/** Few enough to sort. */
constexpr int64_t kSortLimit = 64;

void topByHeap(const float* values, int64_t n, int64_t k, std::vector<uint64_t>& keys) {
  // A heap with the worst kept key on top. Ids ascend, so an equal value never displaces.
  const auto worstOnTop = std::greater<uint64_t>();
  float floor = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < n; ++i) {
    if (!(values[i] > floor)) continue;
    keys.push_back(orderKey(values[i], static_cast<int32_t>(i)));
    std::push_heap(keys.begin(), keys.end(), worstOnTop);
    if (static_cast<int64_t>(keys.size()) > k) {
      std::pop_heap(keys.begin(), keys.end(), worstOnTop);
      keys.pop_back();
    }
    if (static_cast<int64_t>(keys.size()) == k) floor = values[idOfKey(keys.front())];
  }
  std::sort(keys.begin(), keys.end(), std::greater<uint64_t>());
}

void topByPartition(const float* values, int64_t n, int64_t k, std::vector<uint64_t>& keys) {
  for (int64_t i = 0; i < n; ++i) {
    if (values[i] > -std::numeric_limits<float>::infinity()) keys.push_back(orderKey(values[i], static_cast<int32_t>(i)));
  }
  if (static_cast<int64_t>(keys.size()) > k) {
    std::nth_element(keys.begin(), keys.begin() + k, keys.end(), std::greater<uint64_t>());
    keys.resize(static_cast<size_t>(k));
  }
  std::sort(keys.begin(), keys.end(), std::greater<uint64_t>());
}

uint64_t medianOf(uint64_t a, uint64_t b, uint64_t c) { return std::max(std::min(a, b), std::min(std::max(a, b), c)); }

}  // namespace

uint64_t orderKey(float value, int32_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(value + 0.0f);  // -0 becomes 0
  const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return (static_cast<uint64_t>(ordered) << 32) | static_cast<uint32_t>(~id);
}

int32_t idOfKey(uint64_t key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }

void topKeys(const float* values, int64_t n, int64_t k, std::vector<uint64_t>& keys) {
  keys.clear();
  if (k <= 0) return;
  if (k <= kHeapLimit) {
    topByHeap(values, n, k, keys);
  } else {
    topByPartition(values, n, k, keys);
  }
}

uint64_t keyAtMass(std::vector<uint64_t>& keys, const float* weights, double target, bool reach, double& before) {
  const auto past = [=](double mass) { return mass > target || (reach && mass >= target); };
  auto begin = keys.begin();
  auto end = keys.end();
  double sum = 0.0;
  while (end - begin > kSortLimit) {
    const uint64_t pivot = medianOf(*begin, begin[(end - begin) / 2], end[-1]);
    const auto middle = std::partition(begin, end, [=](uint64_t key) { return key > pivot; });
    double upper = 0.0;
    for (auto it = begin; it != middle; ++it) upper += weights[idOfKey(*it)];
    if (middle != begin && past(sum + upper)) {
      end = middle;
    } else {
      // Keys are distinct, so the pivot itself is the best of the lower part.
      sum += upper;
      begin = middle;
      std::iter_swap(begin, std::find(begin, end, pivot));
      const double own = weights[idOfKey(pivot)];
      if (past(sum + own) || end - begin == 1) {
        before = sum;
        return pivot;
      }
      sum += own;
      ++begin;
    }
  }
  std::sort(begin, end, std::greater<uint64_t>());
  for (; end - begin > 1; ++begin) {
    const double own = weights[idOfKey(*begin)];
    if (past(sum + own)) break;
    sum += own;
  }
  before = sum;
  return *begin;
}

}  // namespace guildhall
