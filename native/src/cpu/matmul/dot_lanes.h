#pragma once

// Sixteen f32 or int32 lanes with the dot instructions. GCC 12 copies the accumulator of its intrinsics at every step;
// written as instructions they stay where they are.

#include <immintrin.h>

#include <cstdint>

#define GH_DOT_INLINE inline __attribute__((always_inline))

namespace guildhall::GUILDHALL_ISA {

/** The 32 bits at p, which may have any alignment, in every lane. */
static GH_DOT_INLINE __m512i broadcast32(const uint8_t* p) {
  int32_t value;
  __builtin_memcpy(&value, p, sizeof value);
  return _mm512_set1_epi32(value);
}

static GH_DOT_INLINE __m512 broadcastFloat(const uint8_t* p) { return _mm512_castsi512_ps(broadcast32(p)); }

struct DotLanes {
  __m512 v;

  static GH_DOT_INLINE DotLanes zero() { return {_mm512_setzero_ps()}; }
  // Masks and not copies of edges: a call beside the tile's loop would move accumulators to the stack.
  static GH_DOT_INLINE DotLanes loadFirst(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(firstLanes(n), p)}; }
  GH_DOT_INLINE void storeFirst(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, firstLanes(n), v); }

 private:
  static GH_DOT_INLINE __mmask16 firstLanes(int64_t n) {
    return n >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << n) - 1u);
  }

 public:

#if defined(__AVX512BF16__)
  /** v += the products of sixteen pairs of bf16. */
  GH_DOT_INLINE void addPairs(__m512i a, __m512i b) { __asm__("vdpbf16ps %2, %1, %0" : "+v"(v) : "v"(a), "v"(b)); }
#endif
};

#if defined(__AVX512VNNI__)
/** acc + the dot products of sixteen quads, u8 times s8, exact. */
static GH_DOT_INLINE __m512i addQuads(__m512i acc, __m512i unsignedBytes, __m512i signedBytes) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(unsignedBytes), "v"(signedBytes));
  return acc;
}
#endif

}  // namespace guildhall::GUILDHALL_ISA
