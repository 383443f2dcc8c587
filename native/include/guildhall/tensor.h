#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace guildhall {

enum class Dtype { kF32, kBf16, kF16, kF8E4m3 };
/** Format in which weights are packed and multiplied. */
enum class WeightFormat { kF32, kBf16 };
/** Format of dispatched rows, expert rows and KV pages. */
enum class RowFormat { kF32, kBf16 };

inline int64_t dtypeBytes(Dtype dtype) { return dtype == Dtype::kF32 ? 4 : dtype == Dtype::kF8E4m3 ? 1 : 2; }
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
  /** Factor of each 128x128 block. */
  std::optional<Scale> scale;
  /** Source row of each output row; null for the identity. */
  const int32_t* rowMap = nullptr;
  int64_t rowMapLength = 0;

  /** Rows after gathering. */
  int64_t rows() const { return rowMap ? rowMapLength : sourceRows; }
  int64_t sourceRow(int64_t row) const { return rowMap ? rowMap[row] : row; }
  const uint8_t* rowData(int64_t row) const { return data + sourceRow(row) * cols * dtypeBytes(dtype); }

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
/** OCP E4M3 (finite, S.1111.111 is NaN). */
float f8e4m3ToFloat(uint8_t bits);

}  // namespace guildhall
