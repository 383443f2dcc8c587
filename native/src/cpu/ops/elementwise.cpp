// Activations, rounding and row additions.

#include "kernels.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/** Elements of one task of the array kernels. */
constexpr int64_t kArrayGrain = 16384;

/** Rows of one task, so that a task has about kArrayGrain elements. */
int64_t rowGrain(int64_t cols) { return maxInt(1, kArrayGrain / maxInt(1, cols)); }

template <typename F>
GH_INLINE void mapArray(const float* x, float* out, int64_t n, F f) {
  eachVector(n, [&](int64_t i, Mask16 m) { store(out + i, f(load(x + i, m)), m); });
}

}  // namespace

void expArray(const float* x, float* out, int64_t n) {
  mapArray(x, out, n, [](F32x16 v) { return exp(v); });
}
void sigmoidArray(const float* x, float* out, int64_t n) {
  mapArray(x, out, n, [](F32x16 v) { return sigmoid(v); });
}
void siluArray(const float* x, float* out, int64_t n) {
  mapArray(x, out, n, [](F32x16 v) { return silu(v); });
}
void softplusArray(const float* x, float* out, int64_t n) {
  mapArray(x, out, n, [](F32x16 v) { return softplus(v); });
}

float maxValue(const float* x, int64_t n) {
  const F32x16 lowest = splat(-__builtin_inff());
  F32x16 best = lowest;
  Mask16 nan = 0;
  eachVector(n, [&](int64_t i, Mask16 m) {
    const F32x16 v = select(m, load(x + i, m), lowest);
    nan |= isNan(v);
    best = max(v, best);
  });
  return nan != 0 ? __builtin_nanf("") : maxLane(best);
}

double expSum(const float* x, float shift, float factor, float* out, int64_t n) {
  constexpr int64_t kBlock = 1024;
  double total = 0.0;
  const F32x16 shiftV = splat(shift);
  const F32x16 factorV = splat(factor);
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const float* block = x + begin;
    float* target = out == nullptr ? nullptr : out + begin;
    total += sumOver(minInt(kBlock, n - begin), [=](int64_t i, Mask16 m, F32x16 acc) {
      const F32x16 e = select(m, exp(mul(sub(load(block + i, m), shiftV), factorV)), zero());
      if (target != nullptr) store(target + i, e, m);
      return add(acc, e);
    });
  }
  return total;
}

int64_t indexesAtLeast(const float* x, float threshold, int32_t* out, int64_t capacity, int64_t n) {
  int64_t count = 0;
  const F32x16 limit = splat(threshold);
  eachVector(n, [&](int64_t i, Mask16 m) {
    Mask16 hit = lessEqual(limit, load(x + i, m)) & m;
    for (; hit != 0; hit &= hit - 1) {
      if (count < capacity) out[count] = static_cast<int32_t>(i + __builtin_ctz(hit));
      ++count;
    }
  });
  return count;
}

void roundToBf16(ParallelFor& par, const float* x, Bf16* out, int64_t n) {
  par.run(
      n,
      [=](int64_t begin, int64_t end, int) {
        eachVector(end - begin, [&](int64_t i, Mask16 m) { storeBf16(out + begin + i, load(x + begin + i, m), m); });
      },
      kArrayGrain);
}

void widenBf16(ParallelFor& par, const Bf16* x, float* out, int64_t n) {
  par.run(
      n,
      [=](int64_t begin, int64_t end, int) {
        eachVector(end - begin, [&](int64_t i, Mask16 m) { store(out + begin + i, loadBf16(x + begin + i, m), m); });
      },
      kArrayGrain);
}

void siluMul(ParallelFor& par, const SiluMulArgs& args) {
  par.run(
      args.rows,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
          const float* gate = args.gate + r * args.gateStride;
          const float* up = args.up + r * args.upStride;
          float* out = args.out + r * args.outStride;
          eachVector(args.cols,
                     [=](int64_t i, Mask16 m) { store(out + i, mul(silu(load(gate + i, m)), load(up + i, m)), m); });
        }
      },
      rowGrain(args.cols));
}

void addRows(ParallelFor& par, const AddRowsArgs& args) {
  par.run(
      args.rows,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
          float* y = args.y + r * args.yStride;
          const float* x = args.x + r * args.xStride;
          if (args.kind == RowScale::None) {
            eachVector(args.cols, [=](int64_t i, Mask16 m) { store(y + i, add(load(y + i, m), load(x + i, m)), m); });
            continue;
          }
          F32x16 s = splat(args.scale[r * args.scaleStride]);
          if (args.kind == RowScale::Sigmoid) s = sigmoid(s);
          eachVector(args.cols, [=](int64_t i, Mask16 m) { store(y + i, fma(s, load(x + i, m), load(y + i, m)), m); });
        }
      },
      rowGrain(args.cols));
}

void gateMul(ParallelFor& par, const GateMulArgs& args) {
  par.run(
      args.rows,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
          for (int64_t h = 0; h < args.heads; ++h) {
            float* x = args.x + r * args.xRowStride + h * args.xHeadStride;
            const float* gate = args.gate + r * args.gateRowStride + h * args.gateHeadStride;
            eachVector(args.dim,
                       [=](int64_t i, Mask16 m) { store(x + i, mul(load(x + i, m), sigmoid(load(gate + i, m))), m); });
          }
        }
      },
      rowGrain(args.heads * args.dim));
}

}  // namespace guildhall::GUILDHALL_ISA
