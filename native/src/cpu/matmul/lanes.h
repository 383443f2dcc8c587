#pragma once

// Sixteen f32 lanes, compiled once per instruction set. Only fused multiply-adds, so every variant gives the same bits.

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(GUILDHALL_ISA_AVX2) || defined(GUILDHALL_ISA_AVX512)
#include <immintrin.h>
#endif

namespace guildhall::GUILDHALL_ISA {

#if defined(GUILDHALL_ISA_AVX512)

struct Lanes16 {
  __m512 v;

  static Lanes16 zero() { return {_mm512_setzero_ps()}; }
  static Lanes16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Lanes16 broadcast(float x) { return {_mm512_set1_ps(x)}; }
  /** The first n lanes, which may be past 16. */
  static Lanes16 loadFirst(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(firstLanes(n), p)}; }
  void storeFirst(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, firstLanes(n), v); }
  static __mmask16 firstLanes(int64_t n) {
    return n >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << n) - 1u);
  }
  void addProduct(Lanes16 a, Lanes16 b) { v = _mm512_fmadd_ps(a.v, b.v, v); }
};

/** Sixteen bf16 pairs (even, odd) widened exactly. */
struct PairLanes16 {
  Lanes16 even, odd;

  static PairLanes16 load(const uint16_t* p) {
    const __m512i bits = _mm512_loadu_si512(p);
    return {{_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16))},
            {_mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))}};
  }
};

#elif defined(GUILDHALL_ISA_AVX2)

struct Lanes16 {
  __m256 lo, hi;

  static Lanes16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Lanes16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Lanes16 broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  void store(float* p) const {
    _mm256_storeu_ps(p, lo);
    _mm256_storeu_ps(p + 8, hi);
  }
  static Lanes16 loadFirst(const float* p, int64_t n) {
    if (n >= 16) return load(p);
    float edge[16] = {};
    for (int64_t i = 0; i < n; ++i) edge[i] = p[i];
    return load(edge);
  }
  void storeFirst(float* p, int64_t n) const {
    if (n >= 16) return store(p);
    float edge[16];
    store(edge);
    for (int64_t i = 0; i < n; ++i) p[i] = edge[i];
  }
  void addProduct(Lanes16 a, Lanes16 b) {
    lo = _mm256_fmadd_ps(a.lo, b.lo, lo);
    hi = _mm256_fmadd_ps(a.hi, b.hi, hi);
  }
};

struct PairLanes16 {
  Lanes16 even, odd;

  static PairLanes16 load(const uint16_t* p) {
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    const __m256i lo = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i hi = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16));
    return {{_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))},
            {_mm256_castsi256_ps(_mm256_and_si256(lo, mask)), _mm256_castsi256_ps(_mm256_and_si256(hi, mask))}};
  }
};

#else

struct Lanes16 {
  float v[16];

  static Lanes16 zero() { return {}; }
  static Lanes16 load(const float* p) {
    Lanes16 r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static Lanes16 broadcast(float x) {
    Lanes16 r;
    for (float& lane : r.v) lane = x;
    return r;
  }
  void store(float* p) const { std::memcpy(p, v, sizeof v); }
  static Lanes16 loadFirst(const float* p, int64_t n) {
    Lanes16 r = zero();
    for (int64_t i = 0; i < (n < 16 ? n : 16); ++i) r.v[i] = p[i];
    return r;
  }
  void storeFirst(float* p, int64_t n) const {
    for (int64_t i = 0; i < (n < 16 ? n : 16); ++i) p[i] = v[i];
  }
  void addProduct(const Lanes16& a, const Lanes16& b) {
    for (int i = 0; i < 16; ++i) v[i] = std::fma(a.v[i], b.v[i], v[i]);
  }
};

struct PairLanes16 {
  Lanes16 even, odd;

  static PairLanes16 load(const uint16_t* p) {
    PairLanes16 r;
    for (int i = 0; i < 16; ++i) {
      const uint32_t even = static_cast<uint32_t>(p[2 * i]) << 16;
      const uint32_t odd = static_cast<uint32_t>(p[2 * i + 1]) << 16;
      std::memcpy(&r.even.v[i], &even, 4);
      std::memcpy(&r.odd.v[i], &odd, 4);
    }
    return r;
  }
};

#endif

}  // namespace guildhall::GUILDHALL_ISA
