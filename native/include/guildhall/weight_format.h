#pragma once

#include <cstdint>

namespace guildhall {

/** Format in which weights are packed and multiplied; see native.ts. */
enum class WeightFormat { kF32, kBf16, kFp8, kQ8, kQ4 };

/** Matmul family; part of the numerics class. See native.ts. */
enum class KernelFamily { kF32Fma, kBf16Fma, kBf16Dot, kFp8Fma, kFp8Dot, kQ8Dot, kQ4Dot };
constexpr int kNumKernelFamilies = 7;

/** Outputs that one panel computes side by side. */
constexpr int64_t kPanelCols = 16;

/** Inputs of one block of an fp8, q8 or q4 panel; K is padded with zeros to whole blocks. */
constexpr int64_t kBlockInputs = 128;
/** Inputs that share the scale of a weight row. */
constexpr int64_t kQ8Group = 64;
constexpr int64_t kQ4Group = 32;
/** Inputs that share the scale of an activation row of the int8 families. */
constexpr int64_t kRowGroup = 64;

/*
 * Blocks of a panel, 16 outputs by 128 inputs:
 *   fp8: f32 scales [16]; e4m3 [32 steps][64 bytes]. A step is 4 inputs: four groups of 4 outputs, in each the pairs of
 *        inputs 0, 1 of its outputs, then of inputs 2, 3, so that unpacking bytes gives the pairs of a dot product.
 *   q8:  f16 scales [2 groups][16]; [32 steps of 4 inputs][16][4] of value + 128, unsigned.
 *   q4:  f16 scales [4 groups][16]; [16 steps of 8 inputs][16][4]: low nibbles inputs 0..3, high ones 4..7, of value + 8.
 */
constexpr int64_t kFp8BlockBytes = 64 + kPanelCols * kBlockInputs;
constexpr int64_t kQ8BlockBytes = 64 + kPanelCols * kBlockInputs;
constexpr int64_t kQ4BlockBytes = 128 + kPanelCols * kBlockInputs / 2;

constexpr int64_t paddedInputs(int64_t k) { return (k + kBlockInputs - 1) / kBlockInputs * kBlockInputs; }

/** Bytes of a panel of 16 outputs with k inputs. */
constexpr int64_t packedPanelBytes(int64_t k, KernelFamily family) {
  switch (family) {
    case KernelFamily::kF32Fma:
      return k * kPanelCols * 4;
    case KernelFamily::kBf16Fma:
    case KernelFamily::kBf16Dot:
      return (k + 1) / 2 * kPanelCols * 4;
    case KernelFamily::kFp8Fma:
    case KernelFamily::kFp8Dot:
      return paddedInputs(k) / kBlockInputs * kFp8BlockBytes;
    case KernelFamily::kQ8Dot:
      return paddedInputs(k) / kBlockInputs * kQ8BlockBytes;
    case KernelFamily::kQ4Dot:
      return paddedInputs(k) / kBlockInputs * kQ4BlockBytes;
  }
  return 0;
}

/** Inputs that share a correction (minus the zero point times the sum of a group of quantised inputs). */
constexpr int64_t correctionGroup(KernelFamily family) {
  return family == KernelFamily::kQ4Dot ? kQ4Group : kQ8Group;
}

/**
 * Where the parts of a quantised activation row lie: int8 values [padded k], f32 scales of 64 inputs, then int32
 * corrections of 64 (q8) or 32 (q4) inputs.
 */
constexpr int64_t rowScalesOffset(int64_t k) { return paddedInputs(k); }
constexpr int64_t rowCorrectionsOffset(int64_t k) { return paddedInputs(k) + paddedInputs(k) / kRowGroup * 4; }

/** Bytes of one row as a family's kernel reads it; a multiple of 64 that is no power of two. */
constexpr int64_t inputRowBytes(KernelFamily family, int64_t k) {
  int64_t bytes = 0;
  switch (family) {
    case KernelFamily::kF32Fma:
    case KernelFamily::kBf16Fma:
      bytes = k * 4;
      break;
    case KernelFamily::kFp8Fma:
      bytes = paddedInputs(k) * 4;
      break;
    case KernelFamily::kBf16Dot:
      bytes = (k + 1) / 2 * 4;
      break;
    case KernelFamily::kFp8Dot:
      bytes = paddedInputs(k) * 2;
      break;
    case KernelFamily::kQ8Dot:
    case KernelFamily::kQ4Dot:
      bytes = rowCorrectionsOffset(k) + paddedInputs(k) / correctionGroup(family) * 4;
      break;
  }
  return (bytes + 63) / 64 * 64 + 64;
}

}  // namespace guildhall
