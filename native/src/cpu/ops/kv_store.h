#pragma once

// One token's K and V into their page.

#include "guildhall/e4m3.h"
#include "guildhall/ops/attention.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

/** Element of (token, dimension) of K and V in the blocks of a head. */
template <KvKernel Kernel, bool Fp8>
struct KvPlaces {
  int64_t dim;

  int64_t key(int64_t token, int64_t d) const {
    if (Kernel == KvKernel::kFma) return d * kPageTokens + token;
    const int64_t unit = token / kKvUnitLanes * ((dim + 1) / 2) + d / 2;
    return unit * kKvUnit + inUnit(token % kKvUnitLanes * 2 + d % 2);
  }
  int64_t value(int64_t token, int64_t d) const {
    if (Kernel == KvKernel::kFma) return token * dim + d;
    const int64_t unit = d / kKvUnitLanes * (kPageTokens / 2) + token / 2;
    return unit * kKvUnit + inUnit(d % kKvUnitLanes * 2 + token % 2);
  }

 private:
  static int64_t inUnit(int64_t i) { return Fp8 ? kvUnitByte(i) : i; }
};

/** Stores round(k[d]) and round(v[d]) of one head at `slot` of the page. */
template <KvKernel Kernel, typename Element, typename RoundK, typename RoundV>
static inline void storeHead(uint8_t* keyBlock, uint8_t* valueBlock, int64_t dim, int64_t slot, const float* k,
                             const float* v, RoundK roundK, RoundV roundV) {
  const KvPlaces<Kernel, sizeof(Element) == 1> places{dim};
  auto* const keys = reinterpret_cast<Element*>(keyBlock);
  auto* const values = reinterpret_cast<Element*>(valueBlock);
  for (int64_t d = 0; d < dim; ++d) keys[places.key(slot, d)] = roundK(k[d]);
  if (Kernel == KvKernel::kDot && dim % 2 != 0) keys[places.key(slot, dim)] = 0;
  for (int64_t d = 0; d < dim; ++d) values[places.value(slot, d)] = roundV(v[d]);
}

/** max |x|, NaN when there is one. */
static inline float largestMagnitude(const float* x, int64_t n) {
  F32x16 top = zero();
  Mask16 nan = 0;
  eachVector(n, [&](int64_t i, Mask16 m) {
    const F32x16 v = load(x + i, m);
    nan |= isNan(v);
    top = max(max(v, negate(v)), top);
  });
  return nan != 0 ? __builtin_nanf("") : maxLane(top);
}

/** Factor of a head's E4M3 numbers, and what they are multiplied with before rounding. */
struct Fp8Scale {
  float factor;
  float inverse;

  explicit Fp8Scale(float largest) : factor(largest / kE4m3Max), inverse(kE4m3Max / largest) {
    constexpr float kNothing = 0x1.0p-100f;
    if (largest < kNothing) factor = inverse = 0.0f;
  }
};

template <KvKernel Kernel>
static inline void storeHeadAs(const KvView& kv, int64_t page, int64_t head, int64_t slot, const float* k,
                               const float* v) {
  uint8_t* const keys = kv.keys(page, head);
  uint8_t* const values = kv.values(page, head);
  const int64_t dim = kv.headDim;
  if (kv.format == KvFormat::kBf16) {
    const auto round = [](float x) { return floatToBf16(x); };
    storeHead<Kernel, Bf16>(keys, values, dim, slot, k, v, round, round);
  } else if (kv.format == KvFormat::kFp8) {
    const Fp8Scale ks(largestMagnitude(k, dim));
    const Fp8Scale vs(largestMagnitude(v, dim));
    float* const scales = kv.scales(page, head);
    scales[slot] = ks.factor;
    scales[kPageTokens + slot] = vs.factor;
    storeHead<Kernel, uint8_t>(
        keys, values, dim, slot, k, v, [=](float x) { return floatToE4m3(x * ks.inverse); },
        [=](float x) { return floatToE4m3(x * vs.inverse); });
  } else if constexpr (Kernel == KvKernel::kFma) {
    const auto same = [](float x) { return x; };
    storeHead<Kernel, float>(keys, values, dim, slot, k, v, same, same);
  }
}

/** K and V, [Nkv][D] each, of the token that lies at `slot` of `page`. */
static inline void storeToken(const KvView& kv, int64_t page, int64_t slot, const float* k, const float* v) {
  for (int64_t h = 0; h < kv.numKvHeads; ++h) {
    if (kv.kernel == KvKernel::kDot) {
      storeHeadAs<KvKernel::kDot>(kv, page, h, slot, k + h * kv.headDim, v + h * kv.headDim);
    } else {
      storeHeadAs<KvKernel::kFma>(kv, page, h, slot, k + h * kv.headDim, v + h * kv.headDim);
    }
  }
}

}  // namespace guildhall::GUILDHALL_ISA
