// New keys and values into their pages.

#include "kernels.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/** One token's K of all heads into column `slot` of the dimension-major blocks, and its V into row `slot`. */
template <typename Element, typename Round>
void writeToken(const KvView& kv, Element* layer, int64_t slot, const float* k, const float* v, Round round) {
  const int64_t dim = kv.headDim;
  const int64_t head = dim * kPageTokens;
  Element* values = layer + kv.numKvHeads * head;
  for (int64_t h = 0; h < kv.numKvHeads; ++h) {
    Element* keyColumn = layer + h * head + slot;
    Element* valueRow = values + h * head + slot * dim;
    for (int64_t d = 0; d < dim; ++d) keyColumn[d * kPageTokens] = round(k[h * dim + d]);
    for (int64_t d = 0; d < dim; ++d) valueRow[d] = round(v[h * dim + d]);
  }
}

/** Sequence that owns flat row index r when rows are counted sequence after sequence. */
struct RowCursor {
  int64_t seq;
  int64_t row;
};

}  // namespace

void kvWrite(ParallelFor& par, const KvWriteArgs& args) {
  const BatchView& b = args.batch;
  int64_t total = 0;
  for (int64_t i = 0; i < b.numSeqs; ++i) total += b.rowCount[i];
  par.run(
      total,
      [&](int64_t begin, int64_t end, int) {
        RowCursor at{0, begin};
        while (at.row >= b.rowCount[at.seq]) at.row -= b.rowCount[at.seq++];
        for (int64_t n = begin; n < end; ++n, ++at.row) {
          while (at.row >= b.rowCount[at.seq]) at = {at.seq + 1, 0};
          const int64_t token = b.contextLen[at.seq] + at.row;
          const int64_t page = b.pageTable[at.seq * b.maxPages + token / kPageTokens];
          const int64_t offset = page * args.kv.pageStride + args.kv.layerOffset;
          const int64_t slot = token % kPageTokens;
          const float* k = args.k + (b.rowStart[at.seq] + at.row) * args.kRowStride;
          const float* v = args.v + (b.rowStart[at.seq] + at.row) * args.vRowStride;
          if (args.kv.bf16) {
            writeToken(args.kv, static_cast<Bf16*>(args.kv.base) + offset, slot, k, v,
                       [](float x) { return floatToBf16(x); });
          } else {
            writeToken(args.kv, static_cast<float*>(args.kv.base) + offset, slot, k, v, [](float x) { return x; });
          }
        }
      },
      8);
}

}  // namespace guildhall::GUILDHALL_ISA
