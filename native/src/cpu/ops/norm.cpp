// RMS norm. Sums of squares by sumOver; 1 / sqrt by exact square root and division.

#include "kernels.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

int64_t rowGrain(int64_t cols) { return maxInt(1, 8192 / maxInt(1, cols)); }

GH_INLINE F32x16 inverseRms(const float* x, int64_t dim, float eps) {
  return splat(1.0f / __builtin_sqrtf(sumSquares(x, dim) / static_cast<float>(dim) + eps));
}

}  // namespace

void rmsNorm(ParallelFor& par, const RmsNormArgs& args) {
  par.run(
      args.rows,
      [&](int64_t begin, int64_t end, int) {
        const float* w = args.weight;
        const F32x16 offset = splat(args.zeroCentered ? 1.0f : 0.0f);
        for (int64_t r = begin; r < end; ++r) {
          for (int64_t h = 0; h < args.heads; ++h) {
            const float* x = args.x + r * args.xRowStride + h * args.xHeadStride;
            float* out = args.out + r * args.outRowStride + h * args.outHeadStride;
            const F32x16 inverse = inverseRms(x, args.dim, args.eps);
            eachVector(args.dim, [=](int64_t i, Mask16 m) {
              store(out + i, mul(mul(load(x + i, m), inverse), add(offset, load(w + i, m))), m);
            });
          }
        }
      },
      rowGrain(args.heads * args.dim));
}

}  // namespace guildhall::GUILDHALL_ISA
