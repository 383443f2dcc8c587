// Depthwise causal convolution with SiLU, and the gates of the delta rule.

#include "kernels.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

// Channels of a task: rows are far apart, so a longer run on each is kinder to the prefetcher and the TLB.
constexpr int64_t kMinChannels = 256;
constexpr int64_t kMaxChannels = 2048;
constexpr int64_t kMaxKernel = 8;

/** One sequence's rows over channels [first, first + width); then the state moves on. */
void convolveBlock(const CausalConvArgs& args, int64_t seq, int64_t first, int64_t width) {
  const int64_t past = args.kernel - 1;
  const int64_t rows = args.batch.rowCount[seq];
  float* state = args.state + args.batch.stateSlot[seq] * args.stateStride + first;
  const float* x = args.x + args.batch.rowStart[seq] * args.xRowStride + first;
  float* out = args.out + args.batch.rowStart[seq] * args.outRowStride + first;
  /** Raw row t of the sequence's batch rows, negative ones from the state. */
  const auto rawRow = [&](int64_t t) -> const float* {
    return t < 0 ? state + (past + t) * args.channels : x + t * args.xRowStride;
  };
  for (int64_t t = 0; t < rows; ++t) {
    const float* taps[kMaxKernel];
    for (int64_t j = 0; j <= past; ++j) taps[j] = rawRow(t - past + j);
    eachVector(width, [&](int64_t c, Mask16 m) {
      F32x16 acc = mul(load(args.weight + first + c, m), load(taps[0] + c, m));
      for (int64_t j = 1; j <= past; ++j)
        acc = fma(load(args.weight + j * args.channels + first + c, m), load(taps[j] + c, m), acc);
      store(out + t * args.outRowStride + c, silu(acc), m);
    });
  }
  // Oldest first: row j only reads rows at or after it, which are still unchanged.
  for (int64_t j = 0; j < past; ++j) {
    const float* from = rawRow(rows - past + j);
    float* to = state + j * args.channels;
    if (from != to) eachVector(width, [=](int64_t c, Mask16 m) { store(to + c, load(from + c, m), m); });
  }
}

}  // namespace

void causalConv(ParallelFor& par, const CausalConvArgs& args) {
  const int64_t share = ceilDiv(args.batch.numSeqs * args.channels, 4 * par.threads());
  const int64_t block = minInt(kMaxChannels, maxInt(kMinChannels, roundUp(share, 4 * kLanes)));
  const int64_t blocks = ceilDiv(args.channels, block);
  par.run(args.batch.numSeqs * blocks, [&](int64_t begin, int64_t end, int) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t seq = task / blocks;
      const int64_t first = task % blocks * block;
      if (args.batch.stateSlot[seq] < 0 || args.batch.rowCount[seq] == 0) continue;
      convolveBlock(args, seq, first, minInt(block, args.channels - first));
    }
  });
}

void deltaGates(ParallelFor& par, const DeltaGatesArgs& args) {
  par.run(
      args.rows,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
          const float* a = args.a + r * args.aRowStride;
          const float* b = args.b + r * args.bRowStride;
          float* beta = args.beta + r * args.heads;
          float* g = args.g + r * args.heads;
          eachVector(args.heads, [&](int64_t i, Mask16 m) {
            store(beta + i, sigmoid(load(b + i, m)), m);
            const F32x16 rate = exp(load(args.aLog + i, m));
            store(g + i, negate(mul(rate, softplus(add(load(a + i, m), load(args.dtBias + i, m))))), m);
          });
        }
      },
      maxInt(1, 1024 / maxInt(1, args.heads)));
}

}  // namespace guildhall::GUILDHALL_ISA
