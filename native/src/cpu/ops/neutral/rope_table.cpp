#include <cmath>

#include "guildhall/ops/rope.h"

namespace guildhall {

void ropeTable(ParallelFor& par, const RopeTableArgs& args) {
  par.run(
      args.rows,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
          for (int64_t j = 0; j < args.half; ++j) {
            const float position = static_cast<float>(args.positions[args.freqAxis[j] * args.axisStride + t]);
            const double angle = position * args.invFreq[j];
            args.cos[t * args.half + j] = static_cast<float>(std::cos(angle)) * args.scale;
            args.sin[t * args.half + j] = static_cast<float>(std::sin(angle)) * args.scale;
          }
        }
      },
      16);
}

}  // namespace guildhall
