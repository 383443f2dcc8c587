#pragma once

#include <array>
#include <cstdint>
#include <cstring>

namespace guildhall {

/** Largest finite OCP E4M3 number. */
constexpr float kE4m3Max = 448.0f;

/** Nearest E4M3, ties to even; past the largest the largest, NaN stays NaN. Internal linkage, as bf16.h. */
static inline uint8_t floatToE4m3(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<uint32_t>((bits >> 24) & 0x80u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  float magnitude;
  std::memcpy(&magnitude, &bits, sizeof magnitude);
  if (magnitude < 0x1.0p-6f) {
    // Subnormals are multiples of 2^-9; adding 1.5 * 2^23 rounds to an integer in the low bits.
    const float shifted = magnitude * 512.0f + 12582912.0f;
    uint32_t rounded;
    std::memcpy(&rounded, &shifted, sizeof rounded);
    return static_cast<uint8_t>(sign | (rounded & 0xfu));
  }
  const uint32_t rounded = bits + 0x7ffffu + ((bits >> 20) & 1u);
  const uint32_t code = (rounded >> 20) - (uint32_t{120} << 3);
  return static_cast<uint8_t>(sign | (code < 0x7eu ? code : 0x7eu));
}

/** Values of the 256 codes; exact. */
constexpr std::array<float, 256> makeE4m3Values() {
  std::array<float, 256> values{};
  for (int i = 0; i < 128; ++i) {
    const int exponent = i >> 3;
    float value = static_cast<float>(exponent == 0 ? i & 7 : (i & 7) + 8);
    for (int e = exponent == 0 ? 1 : exponent; e < 10; ++e) value *= 0.5f;
    for (int e = 10; e < exponent; ++e) value *= 2.0f;
    if (i == 127) value = __builtin_nanf("");
    values[static_cast<size_t>(i)] = value;
    values[static_cast<size_t>(i + 128)] = -value;
  }
  return values;
}
inline constexpr std::array<float, 256> kE4m3Values = makeE4m3Values();

}  // namespace guildhall
