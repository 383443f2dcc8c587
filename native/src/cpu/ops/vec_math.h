#pragma once

// Elementary functions on sixteen lanes. Polynomials with written-out fma, so that every instruction set rounds alike.

#include "guildhall/simd.h"

namespace guildhall::GUILDHALL_ISA {

constexpr float kLn2High = 0.693359375f;
constexpr float kLn2Low = -2.12194440e-4f;
/** 1.5 * 2^23: adding it rounds a small number to the nearest integer, held in the low mantissa bits. */
constexpr float kRoundMagic = 12582912.0f;

/**
 * exp(x), about 1 ulp; 0 at and below -104, infinity past 88.73, subnormals in between, NaN for NaN.
 * Polynomial of Cephes' expf on |r| <= ln(2)/2, scaled by 2^n in two factors.
 */
static GH_INLINE F32x16 exp(F32x16 x) {
  x = max(splat(-104.0f), min(splat(89.0f), x));
  const F32x16 z = fma(x, splat(1.44269504088896341f), splat(kRoundMagic));
  const F32x16 n = sub(z, splat(kRoundMagic));
  F32x16 r = fma(n, splat(-kLn2High), x);
  r = fma(n, splat(-kLn2Low), r);
  F32x16 p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, mul(r, r), add(r, splat(1.0f)));
  const I32x16 i = sub(bitsOf(z), bitsOf(splat(kRoundMagic)));
  const I32x16 half = shiftRightSigned<1>(i);
  const I32x16 rest = sub(i, half);
  const F32x16 first = floatOf(shiftLeft<23>(add(half, splatInt(127))));
  const F32x16 second = floatOf(shiftLeft<23>(add(rest, splatInt(127))));
  return mul(mul(p, first), second);
}

/** log(x) for finite x >= 2^-126, about 1 ulp. Polynomial of Cephes' logf on [sqrt(1/2), sqrt(2)). */
static GH_INLINE F32x16 logPositive(F32x16 x) {
  const I32x16 bits = bitsOf(x);
  const I32x16 exponent = shiftRightSigned<23>(sub(bits, splatInt(0x3f3504f3)));
  const F32x16 f = sub(floatOf(sub(bits, shiftLeft<23>(exponent))), splat(1.0f));
  const F32x16 e = toFloat(exponent);
  F32x16 p = splat(7.0376836292e-2f);
  p = fma(p, f, splat(-1.1514610310e-1f));
  p = fma(p, f, splat(1.1676998740e-1f));
  p = fma(p, f, splat(-1.2420140846e-1f));
  p = fma(p, f, splat(1.4249322787e-1f));
  p = fma(p, f, splat(-1.6668057665e-1f));
  p = fma(p, f, splat(2.0000714765e-1f));
  p = fma(p, f, splat(-2.4999993993e-1f));
  p = fma(p, f, splat(3.3333331174e-1f));
  const F32x16 square = mul(f, f);
  F32x16 y = mul(mul(p, f), square);
  y = fma(e, splat(kLn2Low), y);
  y = fma(square, splat(-0.5f), y);
  return fma(e, splat(kLn2High), add(f, y));
}

/** 1 / (1 + exp(-x)). */
static GH_INLINE F32x16 sigmoid(F32x16 x) { return div(splat(1.0f), add(splat(1.0f), exp(negate(x)))); }

/** x / (1 + exp(-x)). */
static GH_INLINE F32x16 silu(F32x16 x) { return div(x, add(splat(1.0f), exp(negate(x)))); }

/** x > 20 ? x : log(1 + exp(x)), with the rounding error of 1 + exp(x) put back. */
static GH_INLINE F32x16 softplus(F32x16 x) {
  const F32x16 e = exp(min(splat(20.0f), x));
  const F32x16 u = add(e, splat(1.0f));
  const F32x16 lost = sub(e, sub(u, splat(1.0f)));
  const F32x16 y = add(logPositive(u), div(lost, u));
  return select(less(splat(20.0f), x), x, y);
}

/** One value through a lane function. */
template <typename F>
static GH_INLINE float onLane(F f, float x) {
  float lanes[kLanes];
  store(lanes, f(splat(x)));
  return lanes[0];
}

static GH_INLINE int64_t minInt(int64_t a, int64_t b) { return a < b ? a : b; }
static GH_INLINE int64_t maxInt(int64_t a, int64_t b) { return a > b ? a : b; }
static GH_INLINE float maxFloat(float a, float b) { return a > b ? a : b; }
static GH_INLINE int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
static GH_INLINE int64_t roundUp(int64_t a, int64_t b) { return ceilDiv(a, b) * b; }

/**
 * Sum of f(first index, lanes) over [0, n): f gives a vector whose lanes past n are zero. Vector i goes to accumulator
 * i mod 4; then (0 + 1) + (2 + 3) and the lane tree. The one reduction that norms use.
 */
template <typename F>
static GH_INLINE float sumOver(int64_t n, F f) {
  F32x16 a0 = zero(), a1 = zero(), a2 = zero(), a3 = zero();
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a0 = f(i, 0xffffu, a0);
    a1 = f(i + kLanes, 0xffffu, a1);
    a2 = f(i + 2 * kLanes, 0xffffu, a2);
    a3 = f(i + 3 * kLanes, 0xffffu, a3);
  }
  if (i < n) a0 = f(i, firstLanes(n - i), a0);
  if (i + kLanes < n) a1 = f(i + kLanes, firstLanes(n - i - kLanes), a1);
  if (i + 2 * kLanes < n) a2 = f(i + 2 * kLanes, firstLanes(n - i - 2 * kLanes), a2);
  if (i + 3 * kLanes < n) a3 = f(i + 3 * kLanes, firstLanes(n - i - 3 * kLanes), a3);
  return sum(add(add(a0, a1), add(a2, a3)));
}

/** Sum of squares with sumOver. */
static GH_INLINE float sumSquares(const float* x, int64_t n) {
  return sumOver(n, [=](int64_t i, Mask16 m, F32x16 acc) {
    const F32x16 v = load(x + i, m);
    return fma(v, v, acc);
  });
}

/** f(index, mask) for each vector of [0, n). */
template <typename F>
static GH_INLINE void eachVector(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, Mask16{0xffffu});
  if (i < n) f(i, firstLanes(n - i));
}

}  // namespace guildhall::GUILDHALL_ISA
