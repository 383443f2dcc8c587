// Loops that the compiler vectorises for each instruction set. Rows go through small aligned tiles, since a row in a
// message may start at any byte.

#include <cmath>
#include <cstring>

#include "guildhall/bf16.h"
#include "row_kernels.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

constexpr int64_t kTile = 512;

/** Calls body(tile of f32, first index, count) for consecutive tiles of a row. */
template <typename Body>
void forTiles(const uint8_t* row, RowFormat format, int64_t n, Body body) {
  alignas(64) float wide[kTile];
  alignas(64) Bf16 narrow[kTile];
  for (int64_t base = 0; base < n; base += kTile) {
    const int64_t count = n - base < kTile ? n - base : kTile;
    if (format == RowFormat::kF32) {
      std::memcpy(wide, row + 4 * base, static_cast<size_t>(count) * 4);
    } else {
      std::memcpy(narrow, row + 2 * base, static_cast<size_t>(count) * 2);
      for (int64_t i = 0; i < count; ++i) wide[i] = bf16ToFloat(narrow[i]);
    }
    body(wide, base, count);
  }
}

}  // namespace

void addWeighted(float* acc, const uint8_t* row, RowFormat format, float weight, int64_t n) {
  forTiles(row, format, n, [&](const float* tile, int64_t base, int64_t count) {
    for (int64_t i = 0; i < count; ++i) acc[base + i] = std::fma(weight, tile[i], acc[base + i]);
  });
}

void roundRow(const float* row, uint8_t* out, RowFormat format, int64_t n) {
  if (format == RowFormat::kF32) {
    std::memcpy(out, row, static_cast<size_t>(n) * 4);
    return;
  }
  alignas(64) Bf16 tile[kTile];
  for (int64_t base = 0; base < n; base += kTile) {
    const int64_t count = n - base < kTile ? n - base : kTile;
    for (int64_t i = 0; i < count; ++i) tile[i] = floatToBf16(row[base + i]);
    std::memcpy(out + 2 * base, tile, static_cast<size_t>(count) * 2);
  }
}

void widenRow(const uint8_t* row, RowFormat format, float* out, int64_t n) {
  forTiles(row, format, n, [&](const float* tile, int64_t base, int64_t count) {
    std::memcpy(out + base, tile, static_cast<size_t>(count) * 4);
  });
}

void combineRow(const CombineRowArgs& args) {
  constexpr int64_t kStrip = 64;
  const bool rounds = args.format == RowFormat::kBf16;
  for (int64_t base = 0; base < args.n; base += kStrip) {
    const int64_t count = args.n - base < kStrip ? args.n - base : kStrip;
    alignas(64) float sum[kStrip] = {};
    for (int64_t e = 0; e < args.count; ++e) {
      const float* const row = args.rows[e] + base;
      const float weight = args.weights[e];
      if (rounds) {
        for (int64_t i = 0; i < count; ++i) sum[i] = std::fma(weight, bf16ToFloat(floatToBf16(row[i])), sum[i]);
      } else {
        for (int64_t i = 0; i < count; ++i) sum[i] = std::fma(weight, row[i], sum[i]);
      }
    }
    float* const hidden = args.hidden + base;
    if (args.shared != nullptr) {
      for (int64_t i = 0; i < count; ++i) hidden[i] += sum[i] + args.factor * args.shared[base + i];
    } else {
      for (int64_t i = 0; i < count; ++i) hidden[i] += sum[i];
    }
  }
}

}  // namespace guildhall::GUILDHALL_ISA
