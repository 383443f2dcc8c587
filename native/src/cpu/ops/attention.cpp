// Paged causal attention. A task is a block of query vectors, (row, head) pairs of one sequence and one kv head, which share
// the loads of a page. Per query vector the arithmetic is fixed: pages in order inside a split with an online softmax,
// splits of kSplitPages pages merged in order. Tasks differ only in which query vectors they hold.

#include "attention_scratch.h"
#include "kernels.h"
#include "tile.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

constexpr int64_t kSplitTokens = int64_t{kSplitPages} * kPageTokens;

/** Running softmax of a block: maximum, sum and unnormalised output of each query vector. */
struct Partial {
  float* max;
  float* sum;
  float* acc;

  explicit Partial(float* base) : max(base), sum(base + kQueryBlock), acc(base + 2 * kQueryBlock) {}
};

/** Query vectors rows x heads of one sequence and kv head; vector m is row m / heads, head m % heads. */
struct QueryBlock {
  int64_t seq;
  int64_t kvHead;
  int64_t firstHead;
  int64_t heads;
  /** Row of the buffers, and the tokens that it sees. */
  int64_t firstRow;
  int64_t firstVisible;
  int64_t rows;

  int64_t count() const { return rows * heads; }
  int64_t visible(int64_t m) const { return firstVisible + m / heads; }
  int64_t mostVisible() const { return firstVisible + rows - 1; }
};

/** Blocks of the batch, numbered: sequence, row block, kv head, head block. */
struct BlockList {
  const AttentionArgs& args;
  AttentionShape shape;
  int64_t perRowBlock;

  int64_t count() const {
    int64_t n = 0;
    for (int64_t i = 0; i < args.batch.numSeqs; ++i) n += rowBlocks(i) * perRowBlock;
    return n;
  }
  int64_t rowBlocks(int64_t seq) const { return ceilDiv(args.batch.rowCount[seq], shape.blockRows); }
  int64_t longest() const {
    int64_t n = 0;
    for (int64_t i = 0; i < args.batch.numSeqs; ++i) {
      if (args.batch.rowCount[i] > 0) n = maxInt(n, args.batch.contextLen[i] + args.batch.rowCount[i]);
    }
    return n;
  }

  QueryBlock at(int64_t index) const {
    int64_t seq = 0;
    while (index >= rowBlocks(seq) * perRowBlock) index -= rowBlocks(seq++) * perRowBlock;
    const int64_t row = index / perRowBlock * shape.blockRows;
    const int64_t unit = index % perRowBlock;
    const int64_t group = args.numHeads / args.kv.numKvHeads;
    const int64_t inGroup = unit % shape.headBlocks * shape.blockHeads;
    QueryBlock b{};
    b.seq = seq;
    b.kvHead = unit / shape.headBlocks;
    b.firstHead = b.kvHead * group + inGroup;
    b.heads = minInt(shape.blockHeads, group - inGroup);
    b.firstRow = args.batch.rowStart[seq] + row;
    b.firstVisible = args.batch.contextLen[seq] + row + 1;
    b.rows = minInt(shape.blockRows, args.batch.rowCount[seq] - row);
    return b;
  }
};

/** One thread's buffers. */
struct Buffers {
  float* query;
  float* scores;
  float* keys;
  float* values;
  /** Page maximum, correction and its argument of each query vector. */
  float* small;
  Partial running;
  Partial split;

  Buffers(float* base, const AttentionShape& s, int64_t dim)
      : query(base),
        scores(query + kQueryBlock * dim),
        keys(scores + kQueryBlock * kPageTokens),
        values(keys + dim * kPageTokens),
        small(values + (dim + kValuePad) * kPageTokens),
        running(small + 3 * kQueryBlock),
        split(small + 3 * kQueryBlock + s.partialFloats) {}
};

class BlockAttention {
 public:
  BlockAttention(const AttentionArgs& args, const QueryBlock& block, const Buffers& buffers, int64_t paddedDim)
      : args_(args), block_(block), buf_(buffers), dim_(args.kv.headDim), paddedDim_(paddedDim) {}

  /** queries * scale, [count][D]. */
  void loadQueries() {
    const F32x16 scale = splat(args_.scale);
    for (int64_t m = 0; m < block_.count(); ++m) {
      const float* q = args_.q + (block_.firstRow + m / block_.heads) * args_.qRowStride +
                       (block_.firstHead + m % block_.heads) * args_.qHeadStride;
      float* to = buf_.query + m * dim_;
      eachVector(dim_, [=](int64_t i, Mask16 lanes) { store(to + i, mul(load(q + i, lanes), scale), lanes); });
    }
  }

  /** Softmax over the tokens of one split that each query vector sees; vectors that see none keep sum 0. */
  void runSplit(int64_t split, const Partial& to) {
    for (int64_t m = 0; m < block_.count(); ++m) {
      to.max[m] = -__builtin_inff();
      to.sum[m] = 0.0f;
      float* acc = to.acc + m * paddedDim_;
      eachVector(paddedDim_, [=](int64_t i, Mask16) { store(acc + i, zero()); });
    }
    const int64_t end = minInt((split + 1) * kSplitTokens, block_.mostVisible());
    for (int64_t token = split * kSplitTokens; token < end; token += kPageTokens) runPage(token, to);
  }

  /** into = into merged with `from`, for query vectors that see the split. Split 0 is copied. */
  void merge(int64_t split, const Partial& into, const Partial& from) {
    for (int64_t m = 0; m < block_.count(); ++m) {
      if (block_.visible(m) <= split * kSplitTokens) continue;
      float* acc = into.acc + m * paddedDim_;
      const float* other = from.acc + m * paddedDim_;
      if (split == 0) {
        into.max[m] = from.max[m];
        into.sum[m] = from.sum[m];
        eachVector(paddedDim_, [=](int64_t i, Mask16) { store(acc + i, load(other + i)); });
        continue;
      }
      const float top = maxFloat(into.max[m], from.max[m]);
      const F32x16 keep = exp(splat(into.max[m] - top));
      const F32x16 take = exp(splat(from.max[m] - top));
      into.max[m] = top;
      into.sum[m] = firstLane(fma(splat(into.sum[m]), keep, mul(splat(from.sum[m]), take)));
      eachVector(paddedDim_,
                 [=](int64_t i, Mask16) { store(acc + i, fma(load(acc + i), keep, mul(load(other + i), take))); });
    }
  }

  void writeOut(const Partial& from) {
    for (int64_t m = 0; m < block_.count(); ++m) {
      float* out = args_.out + (block_.firstRow + m / block_.heads) * args_.outRowStride +
                   (block_.firstHead + m % block_.heads) * args_.outHeadStride;
      const F32x16 inverse = splat(1.0f / from.sum[m]);
      const float* acc = from.acc + m * paddedDim_;
      eachVector(dim_, [=](int64_t i, Mask16 lanes) { store(out + i, mul(load(acc + i), inverse), lanes); });
    }
  }

 private:
  static GH_INLINE float firstLane(F32x16 v) {
    float lanes[kLanes];
    store(lanes, v);
    return lanes[0];
  }

  /** First query vector that sees tokens from `token` on. */
  int64_t firstSeeing(int64_t token) const {
    const int64_t skippedRows = token + 1 - block_.firstVisible;
    return skippedRows <= 0 ? 0 : skippedRows * block_.heads;
  }

  void runPage(int64_t token, const Partial& to) {
    const int64_t first = firstSeeing(token);
    const int64_t most = minInt(kPageTokens, block_.mostVisible() - token);
    const float* keys = nullptr;
    const float* values = nullptr;
    int64_t valueRow = 0;
    locatePage(token, most, keys, values, valueRow);
    const int64_t rows = block_.count() - first;
    const Product scores{buf_.query + first * dim_,         dim_,       1, keys, kPageTokens,
                         buf_.scores + first * kPageTokens, kPageTokens};
    const int64_t dim = dim_;
    multiply<Start::Zero>(scores, rows, roundUp(most, kLanes), [dim](int64_t) { return dim; });
    softmaxPage(token, first, to);
    const Product weighted{
        buf_.scores + first * kPageTokens, kPageTokens, 1, values, valueRow, to.acc + first * paddedDim_, paddedDim_,
        buf_.small + kQueryBlock + first};
    const QueryBlock& block = block_;
    multiply<Start::Scaled>(weighted, rows, dim_, [&block, first, token](int64_t m) {
      return minInt(kPageTokens, block.visible(first + m) - token);
    });
  }

  /** K and V of the page that holds `token` as floats, widened into the buffers when stored as bf16. */
  void locatePage(int64_t token, int64_t most, const float*& keys, const float*& values, int64_t& valueRow) {
    const KvView& kv = args_.kv;
    const int64_t page = args_.batch.pageTable[block_.seq * args_.batch.maxPages + token / kPageTokens];
    const int64_t head = dim_ * kPageTokens;
    const int64_t keyOffset = page * kv.pageStride + kv.layerOffset + block_.kvHead * head;
    const int64_t valueOffset = keyOffset + kv.numKvHeads * head;
    if (!kv.bf16) {
      keys = static_cast<const float*>(kv.base) + keyOffset;
      values = static_cast<const float*>(kv.base) + valueOffset;
      valueRow = dim_;
      return;
    }
    widenInto(static_cast<const Bf16*>(kv.base) + keyOffset, buf_.keys, head);
    valueRow = dim_ + kValuePad;
    for (int64_t j = 0; j < most; ++j)
      widenInto(static_cast<const Bf16*>(kv.base) + valueOffset + j * dim_, buf_.values + j * valueRow, dim_);
    keys = buf_.keys;
    values = buf_.values;
  }

  static void widenInto(const Bf16* from, float* to, int64_t n) {
    eachVector(n, [=](int64_t i, Mask16 m) { store(to + i, loadBf16(from + i, m), m); });
  }

  /** Scores become exp(score - new maximum), invisible tokens 0; sums move on; corrections go to small[kQueryBlock + m]. */
  void softmaxPage(int64_t token, int64_t first, const Partial& to) {
    float* pageMax = buf_.small;
    float* correction = buf_.small + kQueryBlock;
    const int64_t count = block_.count();
    for (int64_t m = first; m < count; ++m)
      pageMax[m] = maskAndMax(buf_.scores + m * kPageTokens, block_.visible(m) - token);
    eachVector(count - first, [&](int64_t i, Mask16 lanes) {
      const F32x16 old = load(to.max + first + i, lanes);
      const F32x16 top = max(load(pageMax + first + i, lanes), old);
      store(correction + first + i, exp(sub(old, top)), lanes);
      store(to.max + first + i, top, lanes);
    });
    for (int64_t m = first; m < count; ++m) {
      float* s = buf_.scores + m * kPageTokens;
      const F32x16 top = splat(to.max[m]);
      F32x16 e[4];
      for (int v = 0; v < 4; ++v) {
        e[v] = exp(sub(load(s + v * kLanes), top));
        store(s + v * kLanes, e[v]);
      }
      const float total = sum(add(add(e[0], e[1]), add(e[2], e[3])));
      to.sum[m] = __builtin_fmaf(to.sum[m], correction[m], total);
    }
  }

  /** Scores of tokens at and past `visible` become -infinity; returns the largest of the rest. */
  static float maskAndMax(float* s, int64_t visible) {
    const F32x16 lowest = splat(-__builtin_inff());
    F32x16 top = lowest;
    for (int v = 0; v < 4; ++v) {
      const F32x16 masked = select(firstLanes(visible - v * kLanes), load(s + v * kLanes), lowest);
      store(s + v * kLanes, masked);
      top = max(masked, top);
    }
    return maxLane(top);
  }

  const AttentionArgs& args_;
  const QueryBlock& block_;
  const Buffers& buf_;
  int64_t dim_;
  int64_t paddedDim_;
};

/** Enough blocks to keep all threads busy: each task goes through all splits of its block. */
void runWhole(ParallelFor& par, const AttentionArgs& args, const BlockList& list, int64_t blocks) {
  par.run(blocks, [&](int64_t begin, int64_t end, int thread) {
    const Buffers buffers(args.scratch + thread * list.shape.threadFloats, list.shape, args.kv.headDim);
    for (int64_t n = begin; n < end; ++n) {
      const QueryBlock block = list.at(n);
      BlockAttention work(args, block, buffers, list.shape.paddedDim);
      work.loadQueries();
      for (int64_t split = 0; split * kSplitTokens < block.mostVisible(); ++split) {
        work.runSplit(split, buffers.split);
        work.merge(split, buffers.running, buffers.split);
      }
      work.writeOut(buffers.running);
    }
  });
}

/** Few blocks with long contexts: splits in parallel, a wave at a time, then each block merges its own in order. */
void runSplits(ParallelFor& par, const AttentionArgs& args, const BlockList& list, int64_t blocks) {
  const AttentionShape& shape = list.shape;
  float* partials = args.scratch + par.threads() * shape.threadFloats;
  const auto partialAt = [&](int64_t n) { return Partial(partials + n * shape.partialFloats); };
  const auto buffersOf = [&](int thread) {
    return Buffers(args.scratch + thread * shape.threadFloats, shape, args.kv.headDim);
  };
  // The first `blocks` partials hold the merged results, the rest one wave.
  const int64_t perWave = maxInt(1, (shape.partials - blocks) / blocks);
  const int64_t splits = ceilDiv(list.longest(), kSplitTokens);
  for (int64_t wave = 0; wave < splits; wave += perWave) {
    const int64_t inWave = minInt(perWave, splits - wave);
    par.run(blocks * inWave, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t n = begin; n < end; ++n) {
        const QueryBlock block = list.at(n / inWave);
        const int64_t split = wave + n % inWave;
        if (split * kSplitTokens >= block.mostVisible()) continue;
        const Buffers buffers = buffersOf(thread);
        BlockAttention work(args, block, buffers, shape.paddedDim);
        work.loadQueries();
        work.runSplit(split, partialAt(blocks + n));
      }
    });
    par.run(blocks, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t n = begin; n < end; ++n) {
        const QueryBlock block = list.at(n);
        const Buffers buffers = buffersOf(thread);
        BlockAttention work(args, block, buffers, shape.paddedDim);
        for (int64_t i = 0; i < inWave; ++i) work.merge(wave + i, partialAt(n), partialAt(blocks + n * inWave + i));
        if (wave + inWave >= splits) work.writeOut(partialAt(n));
      }
    });
  }
}

}  // namespace

void attention(ParallelFor& par, const AttentionArgs& args) {
  const AttentionShape shape = attentionShape(args.numHeads, args.kv.numKvHeads, args.kv.headDim, par.threads());
  const BlockList list{args, shape, args.kv.numKvHeads * shape.headBlocks};
  const int64_t blocks = list.count();
  if (blocks == 0) return;
  const bool splitUp = blocks <= 2 * par.threads() && par.threads() > 1 && list.longest() > 2 * kSplitTokens;
  if (splitUp) {
    runSplits(par, args, list, blocks);
  } else {
    runWhole(par, args, list, blocks);
  }
}

}  // namespace guildhall::GUILDHALL_ISA
