// Matmul of the q8 and q4 families without VNNI: integer dot products inside a group, which are exact, then
// acc = fma(float(dot), weight scale * row scale, acc). The loops over lanes are left to the compiler.

#include <cmath>

#include "guildhall/tensor.h"
#include "matmul_isa.h"
#include "tiles.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

struct PlainLanes {
  float v[kPanelCols];

  static PlainLanes zero() { return {}; }
  static PlainLanes loadFirst(const float* p, int64_t n) {
    PlainLanes lanes{};
    std::memcpy(lanes.v, p, static_cast<size_t>(std::min(n, kPanelCols)) * sizeof(float));
    return lanes;
  }
  void storeFirst(float* p, int64_t n) const {
    std::memcpy(p, v, static_cast<size_t>(std::min(n, kPanelCols)) * sizeof(float));
  }
};

int32_t readInt(const uint8_t* p) {
  int32_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

float readFloat(const uint8_t* p) {
  float value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

/** sum[lane] += the dot product of a quad: `weights` [16][4] unsigned, `x` [4] signed. */
void addQuad(int32_t* sum, const uint8_t* weights, const uint8_t* x) {
  int32_t values[4];
  for (int i = 0; i < 4; ++i) values[i] = static_cast<int8_t>(x[i]);
  for (int64_t lane = 0; lane < kPanelCols; ++lane) {
    const uint8_t* const w = weights + 4 * lane;
    sum[lane] += w[0] * values[0] + w[1] * values[1] + w[2] * values[2] + w[3] * values[3];
  }
}

/** acc = fma(float(sum), scale of the output * scale of the row, acc). `scales` holds sixteen f16. */
void finishGroup(const int32_t* sum, const uint8_t* scales, float rowScale, PlainLanes& acc) {
  for (int64_t lane = 0; lane < kPanelCols; ++lane) {
    uint16_t bits;
    std::memcpy(&bits, scales + 2 * lane, sizeof bits);
    acc.v[lane] = std::fma(static_cast<float>(sum[lane]), halfToFloat(bits) * rowScale, acc.v[lane]);
  }
}

template <int R, int P>
struct Q8Tile {
  static void run(const Tile& t) {
    const uint8_t* const corrections = t.x[0] + rowCorrectionsOffset(t.k);
    PlainLanes acc = loadPartial<PlainLanes>(t, 0, 0);
    for (int64_t group = t.kBegin / kQ8Group; group * kQ8Group < paddedInputs(t.kEnd); ++group) {
      const uint8_t* const block = t.panels + group / 2 * kQ8BlockBytes;
      const uint8_t* w = block + 64 + group % 2 * kQ8Group * kPanelCols;
      int32_t sum[kPanelCols];
      std::fill_n(sum, kPanelCols, readInt(corrections + 4 * group));
      for (int64_t at = group * kQ8Group; at < (group + 1) * kQ8Group; at += 4, w += 64) addQuad(sum, w, t.x[0] + at);
      finishGroup(sum, block + 32 * (group % 2), readFloat(t.x[0] + rowScalesOffset(t.k) + 4 * group), acc);
    }
    storePartial(t, 0, 0, acc);
  }
};

template <int R, int P>
struct Q4Tile {
  static void run(const Tile& t) {
    const uint8_t* const corrections = t.x[0] + rowCorrectionsOffset(t.k);
    PlainLanes acc = loadPartial<PlainLanes>(t, 0, 0);
    for (int64_t group = t.kBegin / kQ4Group; group * kQ4Group < paddedInputs(t.kEnd); ++group) {
      const uint8_t* const block = t.panels + group / 4 * kQ4BlockBytes;
      const uint8_t* w = block + 128 + group % 4 * kQ4Group * kPanelCols / 2;
      int32_t sum[kPanelCols];
      std::fill_n(sum, kPanelCols, readInt(corrections + 4 * group));
      for (int64_t at = group * kQ4Group; at < (group + 1) * kQ4Group; at += 8, w += 64) {
        uint8_t even[64], odd[64];
        for (int i = 0; i < 64; ++i) {
          even[i] = w[i] & 15;
          odd[i] = static_cast<uint8_t>(w[i] >> 4);
        }
        addQuad(sum, even, t.x[0] + at);
        addQuad(sum, odd, t.x[0] + at + 4);
      }
      const int64_t rowScale = rowScalesOffset(t.k) + 4 * (group * kQ4Group / kRowGroup);
      finishGroup(sum, block + 32 * (group % 4), readFloat(t.x[0] + rowScale), acc);
    }
    storePartial(t, 0, 0, acc);
  }
};

template <template <int, int> class Tiles>
struct Shape {
  static constexpr int kRows = 1;
  static constexpr int kPanels = 1;
  static constexpr int kStreamRows = 1;
  static constexpr int kStreamPanels = 1;
  static constexpr int64_t kSlice = 1024;

  template <int R, int P>
  using Kernel = Tiles<R, P>;
};

}  // namespace

void matmulQ8(const MatmulBlock& block) {
  TileRunner<Shape<Q8Tile>>(block, KernelFamily::kQ8Dot).run();
}

void matmulQ4(const MatmulBlock& block) {
  TileRunner<Shape<Q4Tile>>(block, KernelFamily::kQ4Dot).run();
}

}  // namespace guildhall::GUILDHALL_ISA
