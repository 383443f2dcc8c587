// Matmul of the fma families: y[m][n] is one chain acc = fma(x[m][k], w[n][k], acc) over ascending k, on every
// instruction set. Outputs lie across the lanes, so that no lane is ever reduced.

#include "guildhall/tensor.h"
#include "lanes.h"
#include "matmul_isa.h"
#include "tiles.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

#if defined(GUILDHALL_ISA_AVX512)
constexpr int kRowLimit = 6;
constexpr int kPanelLimit = 4;
#elif defined(GUILDHALL_ISA_AVX2)
constexpr int kRowLimit = 6;
constexpr int kPanelLimit = 1;
#else
constexpr int kRowLimit = 4;
constexpr int kPanelLimit = 1;
#endif

const float* floatsOf(const uint8_t* row) { return reinterpret_cast<const float*>(row); }

template <int R, int P>
inline __attribute__((always_inline)) void loadAll(const Tile& t, Lanes16 (&acc)[R][P]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) acc[r][p] = loadPartial<Lanes16>(t, r, p);
  }
}

template <int R, int P>
inline __attribute__((always_inline)) void storeAll(const Tile& t, const Lanes16 (&acc)[R][P]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) storePartial(t, r, p, acc[r][p]);
  }
}

template <int R, int P>
struct F32Tile {
  static void run(const Tile& t) {
    Lanes16 acc[R][P];
    loadAll(t, acc);
    for (int64_t k = t.kBegin; k < t.kEnd; ++k) {
      Lanes16 weights[P];
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) weights[p] = Lanes16::load(floatsOf(t.panels + p * t.panelBytes) + k * kPanelCols);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Lanes16 value = Lanes16::broadcast(floatsOf(t.x[r])[k]);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) acc[r][p].addProduct(value, weights[p]);
      }
    }
    storeAll(t, acc);
  }
};

/** bf16 weights, widened; a pair of k at a time. An odd K has one real element in its last pair. */
template <int R, int P>
struct Bf16Tile {
  static void run(const Tile& t) {
    Lanes16 acc[R][P];
    loadAll(t, acc);
    int64_t k = t.kBegin;
    for (; k + 2 <= t.kEnd; k += 2) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const PairLanes16 pair = pairAt(t, p, k);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          acc[r][p].addProduct(Lanes16::broadcast(floatsOf(t.x[r])[k]), pair.even);
          acc[r][p].addProduct(Lanes16::broadcast(floatsOf(t.x[r])[k + 1]), pair.odd);
        }
      }
    }
    if (k < t.kEnd) {
      for (int p = 0; p < P; ++p) {
        const PairLanes16 pair = pairAt(t, p, k);
        for (int r = 0; r < R; ++r) acc[r][p].addProduct(Lanes16::broadcast(floatsOf(t.x[r])[k]), pair.even);
      }
    }
    storeAll(t, acc);
  }

  static inline __attribute__((always_inline)) PairLanes16 pairAt(const Tile& t, int p, int64_t k) {
    return PairLanes16::load(reinterpret_cast<const uint16_t*>(t.panels + p * t.panelBytes) + k * kPanelCols);
  }
};

/** e4m3 weights widened by table; a chain inside a block of 128 inputs, then acc = fma(block sum, scale, acc). */
template <int R, int P>
struct Fp8Tile {
  static void run(const Tile& t) {
    Lanes16 acc[R][P];
    loadAll(t, acc);
    for (int64_t k = t.kBegin; k < t.kEnd; k += kBlockInputs) {
      for (int p = 0; p < P; ++p) {
        const uint8_t* const block = t.panels + p * t.panelBytes + k / kBlockInputs * kFp8BlockBytes;
        Lanes16 sum[R];
        for (int r = 0; r < R; ++r) sum[r] = Lanes16::zero();
        for (int64_t i = 0; i < kBlockInputs; ++i) {
          const Lanes16 weights = widen(block + 64 + i / 4 * 64, i % 4);
          for (int r = 0; r < R; ++r) sum[r].addProduct(Lanes16::broadcast(floatsOf(t.x[r])[k + i]), weights);
        }
        const Lanes16 scale = Lanes16::load(floatsOf(block));
        for (int r = 0; r < R; ++r) acc[r][p].addProduct(sum[r], scale);
      }
    }
    storeAll(t, acc);
  }

  /** Input `part` of a step of four, of sixteen outputs. */
  static Lanes16 widen(const uint8_t* step, int64_t part) {
    float values[kPanelCols];
    for (int64_t lane = 0; lane < kPanelCols; ++lane) {
      values[lane] = f8e4m3ToFloat(step[lane / 4 * 16 + part / 2 * 8 + lane % 4 * 2 + part % 2]);
    }
    return Lanes16::load(values);
  }
};

template <template <int, int> class Tiles>
struct Shape {
  static constexpr int kRows = kRowLimit;
  static constexpr int kPanels = kPanelLimit;
  static constexpr int kStreamRows = kRowLimit;
  static constexpr int kStreamPanels = kPanelLimit;
  static constexpr int64_t kSlice = 256;

  template <int R, int P>
  using Kernel = Tiles<R, P>;
};

}  // namespace

void matmulF32(const MatmulBlock& block) {
  TileRunner<Shape<F32Tile>>(block, KernelFamily::kF32Fma).run();
}

void matmulBf16Fma(const MatmulBlock& block) {
  TileRunner<Shape<Bf16Tile>>(block, KernelFamily::kBf16Fma).run();
}

void matmulFp8Fma(const MatmulBlock& block) {
  TileRunner<Shape<Fp8Tile>>(block, KernelFamily::kFp8Fma).run();
}

}  // namespace guildhall::GUILDHALL_ISA
