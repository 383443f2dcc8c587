#include "guildhall/tensor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "guildhall/bf16.h"
#include "guildhall/check.h"

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

/** A dense table of the 256 E4M3 values. */
std::array<float, 256> makeF8Table() {
  std::array<float, 256> table{};
  for (int bits = 0; bits < 256; ++bits) {
    const int exponent = (bits >> 3) & 15;
    const int mantissa = bits & 7;
    float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                : std::ldexp(1.0f + static_cast<float>(mantissa) / 8.0f, exponent - 7);
    if (exponent == 15 && mantissa == 7) value = std::numeric_limits<float>::quiet_NaN();
    table[static_cast<size_t>(bits)] = (bits & 128) != 0 ? -value : value;
  }
  return table;
}

const std::array<float, 256>& f8Table() {
  static const std::array<float, 256> table = makeF8Table();
  return table;
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
    case Dtype::kF8E4m3: {
      const auto& table = f8Table();
      for (int64_t i = 0; i < n; ++i) out[i] = table[in[i]];
      return;
    }
  }
}

void scaleRow(const TensorSource::Scale& scale, int64_t sourceRow, int64_t cols, float* row) {
  const int64_t width = dtypeBytes(scale.dtype);
  const uint8_t* const scales = scale.data + sourceRow / kScaleBlock * scale.cols * width;
  for (int64_t block = 0; block < scale.cols; ++block) {
    const uint8_t* const p = scales + block * width;
    const float factor = scale.dtype == Dtype::kF32 ? loadFloat(p) : bf16ToFloat(load16(p));
    const int64_t end = std::min(cols, (block + 1) * kScaleBlock);
    for (int64_t c = block * kScaleBlock; c < end; ++c) row[c] *= factor;
  }
}

int64_t blocks(int64_t n) { return (n + kScaleBlock - 1) / kScaleBlock; }

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

float f8e4m3ToFloat(uint8_t bits) { return f8Table()[bits]; }

void TensorSource::check(const std::string& path) const {
  constexpr int64_t kMaxSide = int64_t{1} << 31;
  if (sourceRows < 1 || cols < 1 || sourceRows > kMaxSide || cols > kMaxSide) {
    failRange(path + ".shape", shapeText(sourceRows, cols) + " is not a shape");
  }
  const int64_t expected = checkedProduct(path + ".shape", {sourceRows, cols, dtypeBytes(dtype)});
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
  if (!scale) return;
  if (scale->rows != blocks(sourceRows) || scale->cols != blocks(cols)) {
    failRange(path + ".scale.shape",
              shapeText(scale->rows, scale->cols) + ", expected " + shapeText(blocks(sourceRows), blocks(cols)));
  }
  if (scale->dataBytes != scale->rows * scale->cols * dtypeBytes(scale->dtype)) {
    failRange(path + ".scale.data", std::to_string(scale->dataBytes) + " bytes do not fit the shape");
  }
}

void TensorSource::checkShape(const std::string& path, int64_t expectedRows, int64_t expectedCols) const {
  check(path);
  if (rows() == expectedRows && cols == expectedCols) return;
  failRange(path + ".shape", shapeText(rows(), cols) + ", expected " + shapeText(expectedRows, expectedCols));
}

void TensorSource::readRow(int64_t row, float* out) const {
  widenRow(dtype, rowData(row), cols, out);
  if (scale) scaleRow(*scale, sourceRow(row), cols, out);
}

std::vector<float> readAll(const TensorSource& source) {
  std::vector<float> out(static_cast<size_t>(source.rows() * source.cols));
  for (int64_t r = 0; r < source.rows(); ++r) source.readRow(r, out.data() + r * source.cols);
  return out;
}

}  // namespace guildhall
