// Rotation of the leading dimensions of heads by a table of cosines and sines.

#include "kernels.h"
#include "row_math.h"

namespace guildhall::GUILDHALL_ISA {

void rope(ParallelFor& par, const RopeArgs& args) {
  const int64_t half = args.half;
  par.run(
      args.rows,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
          for (int64_t h = 0; h < args.heads; ++h) {
            rotateHead(args.x + r * args.rowStride + h * args.headStride, args.cos + r * half, args.sin + r * half, half);
          }
        }
      },
      maxInt(1, 512 / maxInt(1, args.heads)));
}

}  // namespace guildhall::GUILDHALL_ISA
