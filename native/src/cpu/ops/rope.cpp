// Rotation of the leading dimensions of heads by a table of cosines and sines.

#include "kernels.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

void rope(ParallelFor& par, const RopeArgs& args) {
  const int64_t half = args.half;
  par.run(
      args.rows,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
          const float* c = args.cos + r * half;
          const float* s = args.sin + r * half;
          for (int64_t h = 0; h < args.heads; ++h) {
            float* x = args.x + r * args.rowStride + h * args.headStride;
            eachVector(half, [=](int64_t i, Mask16 m) {
              const F32x16 a = load(x + i, m);
              const F32x16 b = load(x + half + i, m);
              const F32x16 cv = load(c + i, m);
              const F32x16 sv = load(s + i, m);
              store(x + i, fnma(b, sv, mul(a, cv)), m);
              store(x + half + i, fma(a, sv, mul(b, cv)), m);
            });
          }
        }
      },
      maxInt(1, 512 / maxInt(1, args.heads)));
}

}  // namespace guildhall::GUILDHALL_ISA
