// New keys and values into their pages, alone or with the norms and rotations that come before.

#include "kernels.h"
#include "kv_store.h"
#include "row_math.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/**
 * f(row of the buffers, page, slot in it) for each row of the batch. A task has the tokens of half a page, whose K may
 * share cache lines.
 */
template <typename F>
void eachToken(ParallelFor& par, const BatchView& b, F f) {
  int64_t total = 0;
  for (int64_t i = 0; i < b.numSeqs; ++i) total += b.rowCount[i];
  par.run(
      total,
      [&](int64_t begin, int64_t end, int) {
        int64_t seq = 0, row = begin;
        while (row >= b.rowCount[seq]) row -= b.rowCount[seq++];
        for (int64_t n = begin; n < end; ++n, ++row) {
          for (; row >= b.rowCount[seq]; ++seq) row = 0;
          const int64_t token = b.contextLen[seq] + row;
          f(b.rowStart[seq] + row, b.pageTable[seq * b.maxPages + token / kPageTokens], token % kPageTokens);
        }
      },
      total >= 128 ? 32 : 8);
}

GH_INLINE void prepareHead(const HeadPrepArgs& args, float* x, const float* weight, int64_t row) {
  normHead(x, x, weight, args.write.kv.headDim, args.eps, args.zeroCentered);
  rotateHead(x, args.cos + row * args.half, args.sin + row * args.half, args.half);
}

}  // namespace

void kvWrite(ParallelFor& par, const KvWriteArgs& args) {
  eachToken(par, args.batch, [&](int64_t row, int64_t page, int64_t slot) {
    storeToken(args.kv, page, slot, args.k + row * args.kRowStride, args.v + row * args.vRowStride);
  });
}

void prepareHeads(ParallelFor& par, const HeadPrepArgs& args) {
  const KvWriteArgs& w = args.write;
  eachToken(par, w.batch, [&](int64_t row, int64_t page, int64_t slot) {
    float* const k = args.k + row * w.kRowStride;
    for (int64_t h = 0; h < args.numHeads; ++h) {
      prepareHead(args, args.q + row * args.qRowStride + h * args.qHeadStride, args.qNorm, row);
    }
    for (int64_t h = 0; h < w.kv.numKvHeads; ++h) prepareHead(args, k + h * w.kv.headDim, args.kNorm, row);
    storeToken(w.kv, page, slot, k, w.v + row * w.vRowStride);
  });
}

}  // namespace guildhall::GUILDHALL_ISA
