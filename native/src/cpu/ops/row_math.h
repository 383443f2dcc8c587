#pragma once

// Norm and rotation of one head.

#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

static GH_INLINE F32x16 inverseRms(const float* x, int64_t dim, float eps) {
  return splat(1.0f / __builtin_sqrtf(sumSquares(x, dim) / static_cast<float>(dim) + eps));
}

/** out = x / sqrt(mean(x^2) + eps) * w, or * (1 + w) when zeroCentered. In place when out == x. */
static GH_INLINE void normHead(const float* x, float* out, const float* w, int64_t dim, float eps, bool zeroCentered) {
  const F32x16 offset = splat(zeroCentered ? 1.0f : 0.0f);
  const F32x16 inverse = inverseRms(x, dim, eps);
  eachVector(dim, [=](int64_t i, Mask16 m) {
    store(out + i, mul(mul(load(x + i, m), inverse), add(offset, load(w + i, m))), m);
  });
}

/** (a, b) = (x[j], x[j + half]) -> (a cos - b sin, b cos + a sin). */
static GH_INLINE void rotateHead(float* x, const float* cos, const float* sin, int64_t half) {
  eachVector(half, [=](int64_t i, Mask16 m) {
    const F32x16 a = load(x + i, m);
    const F32x16 b = load(x + half + i, m);
    const F32x16 cv = load(cos + i, m);
    const F32x16 sv = load(sin + i, m);
    store(x + i, fnma(b, sv, mul(a, cv)), m);
    store(x + half + i, fma(a, sv, mul(b, cv)), m);
  });
}

}  // namespace guildhall::GUILDHALL_ISA
