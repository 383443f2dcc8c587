#include "guildhall/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "guildhall/bf16.h"
#include "guildhall/check.h"
#include "guildhall/e4m3.h"

namespace guildhall {

namespace {

std::string shapeText(int64_t rows, int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

uint16_t load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

float loadFloat(const uint8_t* p) {
  float v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

void widenRow(Dtype dtype, const uint8_t* in, int64_t n, float* out) {
  switch (dtype) {
    case Dtype::kF32:
      std::memcpy(out, in, static_cast<size_t>(n) * sizeof(float));
      return;
    case Dtype::kBf16:
      for (int64_t i = 0; i < n; ++i) out[i] = bf16ToFloat(load16(in + 2 * i));
      return;
    case Dtype::kF16:
      for (int64_t i = 0; i < n; ++i) out[i] = halfToFloat(load16(in + 2 * i));
      return;
    case Dtype::kF8E4m3:
      for (int64_t i = 0; i < n; ++i) out[i] = kE4m3Values[in[i]];
      return;
    case Dtype::kQ8:
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int8_t>(in[i]);
      return;
    case Dtype::kQ4:
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>((in[i / 2] >> (i % 2 * 4) & 15) - 8);
      return;
  }
}

float scaleValue(const TensorSource::Scale& scale, int64_t index) {
  switch (scale.dtype) {
    case Dtype::kF32:
      return loadFloat(scale.data + 4 * index);
    case Dtype::kBf16:
      return bf16ToFloat(load16(scale.data + 2 * index));
    default:
      return halfToFloat(load16(scale.data + 2 * index));
  }
}

int64_t groups(int64_t n, int64_t group) { return (n + group - 1) / group; }

/** Rows and columns of the scales that a tensor must have: blocks of fp8, or groups of each row. */
bool scaleFits(const TensorSource& source) {
  const TensorSource::Scale& scale = *source.scale;
  const int64_t group = scaleGroup(source.dtype);
  if (group != 0) return scale.rows == source.sourceRows && scale.cols == groups(source.cols, group);
  if (scale.cols != groups(source.cols, kScaleBlock)) return false;
  return scale.rows == groups(source.sourceRows, kScaleBlock) || scale.rows == source.sourceRows;
}

uint32_t bitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

}  // namespace

float halfToFloat(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  float value;
  if (exponent == 31) {
    value = mantissa != 0 ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), -24);
  } else {
    value = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

uint16_t floatToHalf(float value) {
  const uint32_t bits = bitsOf(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x47800000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) {
    // Denormals are multiples of 2^-24; nearbyint rounds ties to even.
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(std::fabs(value), 24))));
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000u) >> 13);
}

uint8_t floatToF8e4m3(float value) { return floatToE4m3(value); }

float f8e4m3ToFloat(uint8_t bits) { return kE4m3Values[bits]; }

void TensorSource::check(const std::string& path) const {
  constexpr int64_t kMaxSide = int64_t{1} << 31;
  if (sourceRows < 1 || cols < 1 || sourceRows > kMaxSide || cols > kMaxSide) {
    failRange(path + ".shape", shapeText(sourceRows, cols) + " is not a shape");
  }
  const int64_t expected = checkedProduct(path + ".shape", {sourceRows, dtypeRowBytes(dtype, cols)});
  if (dataBytes != expected) {
    failRange(path + ".data", std::to_string(dataBytes) + " bytes, expected " + std::to_string(expected) + " for " +
                                  shapeText(sourceRows, cols));
  }
  for (int64_t i = 0; i < rowMapLength && rowMap != nullptr; ++i) {
    if (rowMap[i] < 0 || rowMap[i] >= sourceRows) {
      failRange(path + ".rows[" + std::to_string(i) + "]",
                std::to_string(rowMap[i]) + " is outside [0, " + std::to_string(sourceRows) + ")");
    }
  }
  if (!scale) {
    if (scaleGroup(dtype) != 0) failRange(path + ".scale", "is missing");
    return;
  }
  if (!scaleFits(*this)) {
    const int64_t group = scaleGroup(dtype);
    const std::string expected =
        group != 0 ? shapeText(sourceRows, groups(cols, group))
                   : shapeText(groups(sourceRows, kScaleBlock), groups(cols, kScaleBlock)) + " or one row for each";
    failRange(path + ".scale.shape", shapeText(scale->rows, scale->cols) + ", expected " + expected);
  }
  if (scale->dataBytes != scale->rows * dtypeRowBytes(scale->dtype, scale->cols)) {
    failRange(path + ".scale.data", std::to_string(scale->dataBytes) + " bytes do not fit the shape");
  }
}

float TensorSource::scaleAt(int64_t row, int64_t col) const {
  if (!scale) return 1.0f;
  const int64_t group = scaleGroup(dtype) != 0 ? scaleGroup(dtype) : kScaleBlock;
  const int64_t source = sourceRow(row);
  const int64_t scaleRow = scale->rows == sourceRows ? source : source / kScaleBlock;
  return scaleValue(*scale, scaleRow * scale->cols + col / group);
}

void TensorSource::checkShape(const std::string& path, int64_t expectedRows, int64_t expectedCols) const {
  check(path);
  if (rows() == expectedRows && cols == expectedCols) return;
  failRange(path + ".shape", shapeText(rows(), cols) + ", expected " + shapeText(expectedRows, expectedCols));
}

void TensorSource::readRow(int64_t row, float* out) const {
  widenRow(dtype, rowData(row), cols, out);
  if (!scale) return;
  const int64_t group = scaleGroup(dtype) != 0 ? scaleGroup(dtype) : kScaleBlock;
  for (int64_t begin = 0; begin < cols; begin += group) {
    const float factor = scaleAt(row, begin);
    const int64_t end = std::min(cols, begin + group);
    for (int64_t c = begin; c < end; ++c) out[c] *= factor;
  }
}

std::vector<float> readAll(const TensorSource& source) {
  std::vector<float> out(static_cast<size_t>(source.rows() * source.cols));
  for (int64_t r = 0; r < source.rows(); ++r) source.readRow(r, out.data() + r * source.cols);
  return out;
}

}  // namespace guildhall
