#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "guildhall/weight_format.h"

namespace guildhall {

/** q8: int8 values; q4: two values + 8 a byte, the even column low. Both have an f16 scale for each group of a row. */
enum class Dtype { kF32, kBf16, kF16, kF8E4m3, kQ8, kQ4 };
/** Format of dispatched rows, expert rows and KV pages. */
enum class RowFormat { kF32, kBf16 };

/** Bytes of a row of `cols` values. */
inline int64_t dtypeRowBytes(Dtype dtype, int64_t cols) {
  switch (dtype) {
    case Dtype::kF32:
      return 4 * cols;
    case Dtype::kBf16:
    case Dtype::kF16:
      return 2 * cols;
    case Dtype::kF8E4m3:
    case Dtype::kQ8:
      return cols;
    case Dtype::kQ4:
      return (cols + 1) / 2;
  }
  return 0;
}
/** Columns that share a scale of a q8 or q4 row; 0 for other types. */
inline int64_t scaleGroup(Dtype dtype) { return dtype == Dtype::kQ8 ? kQ8Group : dtype == Dtype::kQ4 ? kQ4Group : 0; }
inline int64_t rowFormatBytes(RowFormat format) { return format == RowFormat::kF32 ? 4 : 2; }

/** Side of the blocks that share an FP8 scale. */
constexpr int64_t kScaleBlock = 128;

/**
 * A weight as it lies in a checkpoint: borrowed bytes of any alignment, little-endian, row-major. Every access checks
 * nothing; `check` has been called.
 */
struct TensorSource {
  struct Scale {
    Dtype dtype = Dtype::kF32;
    const uint8_t* data = nullptr;
    int64_t dataBytes = 0;
    int64_t rows = 0;
    int64_t cols = 0;
  };

  Dtype dtype = Dtype::kF32;
  int64_t sourceRows = 0;
  int64_t cols = 0;
  const uint8_t* data = nullptr;
  int64_t dataBytes = 0;
  /** Factors: of each 128x128 block or of 128 columns of each row (fp8), of each group of a row (q8, q4). */
  std::optional<Scale> scale;
  /** Source row of each output row; null for the identity. */
  const int32_t* rowMap = nullptr;
  int64_t rowMapLength = 0;

  /** Rows after gathering. */
  int64_t rows() const { return rowMap ? rowMapLength : sourceRows; }
  int64_t sourceRow(int64_t row) const { return rowMap ? rowMap[row] : row; }
  const uint8_t* rowData(int64_t row) const { return data + sourceRow(row) * dtypeRowBytes(dtype, cols); }
  /** Factor that applies to column `col` of output row `row`; 1 without scales. */
  float scaleAt(int64_t row, int64_t col) const;

  /** Sizes, scale shape and row map. Throws InvalidArgument naming `path`. */
  void check(const std::string& path) const;
  /** `check`, and that the shape after gathering is [rows, cols]. */
  void checkShape(const std::string& path, int64_t rows, int64_t cols) const;

  /** Output row `row` as f32 with its scales applied (one f32 product). */
  void readRow(int64_t row, float* out) const;
};

/** All elements as f32, row-major, for norms and other small tensors. */
std::vector<float> readAll(const TensorSource& source);

float halfToFloat(uint16_t bits);
/** Round to nearest even; overflow gives infinity. */
uint16_t floatToHalf(float value);
/** OCP E4M3, round to nearest even; what is past 448 becomes 448, NaN stays. */
uint8_t floatToF8e4m3(float value);
/** OCP E4M3 (finite, S.1111.111 is NaN). */
float f8e4m3ToFloat(uint8_t bits);

}  // namespace guildhall
