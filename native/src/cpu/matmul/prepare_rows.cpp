// Activation rows in the forms that the kernels read. Plain loops that the compiler vectorises; every instruction set
// gives the same bytes.

#include <cmath>
#include <cstring>
#include <limits>

#include "guildhall/bf16.h"
#include "matmul_isa.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;

uint32_t bitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

void roundRow(const float* x, int64_t k, int64_t padded, uint8_t* out) {
  auto* const to = reinterpret_cast<Bf16*>(out);
  for (int64_t i = 0; i < k; ++i) to[i] = floatToBf16(x[i]);
  for (int64_t i = k; i < padded; ++i) to[i] = 0;
}

/**
 * 64 values to int8 with one scale, largest magnitude / 127; returns the scale, NaN if a value is not finite.
 * Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even.
 */
float quantiseGroup(const float* x, int8_t* out) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < kRowGroup; ++i) {
    const uint32_t magnitude = bitsOf(x[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  if (largest >= kInfinityBits || largest == 0) {
    std::memset(out, 0, kRowGroup);
    return largest == 0 ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  }
  float top;
  std::memcpy(&top, &largest, sizeof top);
  const float scale = top / 127.0f;
  // A row of denormals has no inverse; it counts as zeros.
  const float inverse = scale < std::numeric_limits<float>::min() ? 0.0f : 1.0f / scale;
  constexpr float kRound = 12582912.0f;
  for (int64_t i = 0; i < kRowGroup; ++i) {
    out[i] = static_cast<int8_t>(static_cast<int32_t>(bitsOf(x[i] * inverse + kRound) - bitsOf(kRound)));
  }
  return scale;
}

void writeCorrections(const int8_t* values, int64_t group, int32_t zeroPoint, uint8_t* out) {
  for (int64_t begin = 0; begin < kRowGroup; begin += group, out += 4) {
    int32_t sum = 0;
    for (int64_t i = begin; i < begin + group; ++i) sum += values[i];
    const int32_t correction = -zeroPoint * sum;
    std::memcpy(out, &correction, sizeof correction);
  }
}

void quantiseRow(const float* x, int64_t k, int64_t group, int32_t zeroPoint, uint8_t* out) {
  uint8_t* const scales = out + rowScalesOffset(k);
  uint8_t* const corrections = out + rowCorrectionsOffset(k);
  for (int64_t begin = 0; begin < paddedInputs(k); begin += kRowGroup) {
    float edge[kRowGroup] = {};
    const float* values = x + begin;
    if (begin + kRowGroup > k) {
      if (begin < k) std::memcpy(edge, values, static_cast<size_t>(k - begin) * sizeof(float));
      values = edge;
    }
    auto* const to = reinterpret_cast<int8_t*>(out + begin);
    const float scale = quantiseGroup(values, to);
    std::memcpy(scales + begin / kRowGroup * 4, &scale, sizeof scale);
    writeCorrections(to, group, zeroPoint, corrections + begin / group * 4);
  }
}

}  // namespace

void prepareF32Row(const float* x, int64_t k, uint8_t* out) { std::memcpy(out, x, static_cast<size_t>(k) * 4); }

void preparePaddedF32Row(const float* x, int64_t k, uint8_t* out) {
  std::memcpy(out, x, static_cast<size_t>(k) * 4);
  std::memset(out + 4 * k, 0, static_cast<size_t>(paddedInputs(k) - k) * 4);
}

void prepareBf16Row(const float* x, int64_t k, uint8_t* out) { roundRow(x, k, (k + 1) / 2 * 2, out); }

void preparePaddedBf16Row(const float* x, int64_t k, uint8_t* out) { roundRow(x, k, paddedInputs(k), out); }

void prepareQ8Row(const float* x, int64_t k, uint8_t* out) { quantiseRow(x, k, kQ8Group, 128, out); }

void prepareQ4Row(const float* x, int64_t k, uint8_t* out) { quantiseRow(x, k, kQ4Group, 8, out); }

}  // namespace guildhall::GUILDHALL_ISA
