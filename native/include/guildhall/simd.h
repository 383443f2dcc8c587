#pragma once

/**
 * Sixteen f32 lanes with one meaning on every instruction set: AVX-512 (one register), AVX2 with FMA (two), or plain
 * arrays with std::fma. Include only from sources that are compiled once per instruction set, with GUILDHALL_ISA the
 * name of the namespace, one of GUILDHALL_ISA_SCALAR / _AVX2 / _AVX512 defined, and -ffp-contract=off: every rounding is
 * written out (fma only where the code says fma), so the three give identical bits. Bits of NaNs are not promised.
 */

#include <cstdint>

#if defined(GUILDHALL_ISA_AVX512) || defined(GUILDHALL_ISA_AVX2)
#include <immintrin.h>
#elif !defined(GUILDHALL_ISA_SCALAR)
#error "define GUILDHALL_ISA_SCALAR, GUILDHALL_ISA_AVX2 or GUILDHALL_ISA_AVX512"
#endif

#include "guildhall/bf16.h"

#if defined(__SANITIZE_ADDRESS__)
// Sixteen instrumented lanes inlined everywhere would take minutes to compile.
#define GH_INLINE inline
#else
#define GH_INLINE inline __attribute__((always_inline))
#endif

namespace guildhall::GUILDHALL_ISA {

constexpr int kLanes = 16;

/** One bit a lane, lane 0 lowest. */
using Mask16 = uint32_t;

/** The lowest n lanes; n may be past 16 or below 0. */
static GH_INLINE Mask16 firstLanes(int64_t n) { return n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u; }

#if defined(GUILDHALL_ISA_AVX512)
#include "guildhall/simd_avx512.inc"
#elif defined(GUILDHALL_ISA_AVX2)
#include "guildhall/simd_avx2.inc"
#else
#include "guildhall/simd_scalar.inc"
#endif

/** acc - a * b with one rounding. */
static GH_INLINE F32x16 fnma(F32x16 a, F32x16 b, F32x16 acc) { return fma(negate(a), b, acc); }

static GH_INLINE F32x16 operator+(F32x16 a, F32x16 b) { return add(a, b); }
static GH_INLINE F32x16 operator-(F32x16 a, F32x16 b) { return sub(a, b); }
static GH_INLINE F32x16 operator*(F32x16 a, F32x16 b) { return mul(a, b); }
static GH_INLINE F32x16 operator/(F32x16 a, F32x16 b) { return div(a, b); }

}  // namespace guildhall::GUILDHALL_ISA
