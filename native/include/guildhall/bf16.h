#pragma once

#include <cstdint>
#include <cstring>

namespace guildhall {

/** Bits of a bfloat16. */
using Bf16 = uint16_t;

/** Exact widening. Internal linkage: this header is compiled under several instruction sets. */
static inline float bf16ToFloat(Bf16 bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

/** Round to nearest, ties to even; NaN stays a (quiet) NaN, overflow gives infinity. */
static inline Bf16 floatToBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  // Both results and a choice, without a branch: loops over rows vectorise.
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;
  return static_cast<Bf16>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

/** A value after a round trip through bfloat16. */
static inline float roundToBf16(float value) { return bf16ToFloat(floatToBf16(value)); }

}  // namespace guildhall
