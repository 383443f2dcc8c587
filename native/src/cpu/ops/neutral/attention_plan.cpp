#include "guildhall/ops/attention_plan.h"

#include <algorithm>

namespace guildhall {

namespace {

/** Partials of one call together; sequences past it go through their splits one after the other. */
constexpr int64_t kMaxPartialFloats = int64_t{1} << 23;
/** A block that is more than this part of a thread's fair share is split. */
constexpr int64_t kShareParts = 4;
/** Multiply-adds of a block's part in one round: about a quarter of a millisecond on one core with bf16 dots. */
constexpr int64_t kRoundWork = int64_t{1} << 25;
/** A block of few query vectors costs what loading its pages costs. */
constexpr int64_t kCheapestVectors = 8;

int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

void AttentionPlan::set(const BatchView& batch, const AttentionHeads& heads, int threads) {
  batch_ = batch;
  heads_ = heads;
  threads_ = threads;
  const int64_t group = heads.numHeads / heads.numKvHeads;
  blockHeads_ = std::min(group, kQueryBlock);
  blockRows_ = kQueryBlock / blockHeads_;
  headBlocks_ = ceilDiv(group, blockHeads_);
  paddedDim_ = ceilDiv(heads.headDim, 32) * 32;
  roundSplits_ = std::max<int64_t>(1, kRoundWork / (2 * kQueryBlock * kSplitTokens * heads.headDim));
  sequences_.clear();
  numTasks_ = numCounters_ = totalPartials_ = 0;
  numRounds_ = 1;
  int64_t total = 0;
  for (int64_t i = 0; i < batch.numSeqs; ++i) {
    total += blockCost(i) * ceilDiv(batch.rowCount[i], blockRows_) * heads.numKvHeads * headBlocks_;
  }
  for (int64_t i = 0; i < batch.numSeqs; ++i) {
    if (batch.rowCount[i] > 0) add(i, threads > 1 && blockCost(i) * threads * kShareParts > total);
  }
}

/** About what a full block of the sequence costs. */
int64_t AttentionPlan::blockCost(int64_t seq) const {
  const int64_t rows = std::min<int64_t>(batch_.rowCount[seq], blockRows_);
  return std::max(kCheapestVectors, rows * blockHeads_) * (int64_t{batch_.contextLen[seq]} + batch_.rowCount[seq]);
}

void AttentionPlan::add(int64_t seq, bool splitUp) {
  const int64_t rows = batch_.rowCount[seq];
  const int64_t splits = ceilDiv(batch_.contextLen[seq] + rows, kSplitTokens);
  const int64_t rowBlocks = ceilDiv(rows, blockRows_);
  const int64_t blocks = rowBlocks * heads_.numKvHeads * headBlocks_;
  const int64_t stride = splits * std::min(rows, blockRows_) * blockHeads_ * (paddedDim_ + 2);
  const bool fits = totalPartials_ + blocks * stride <= kMaxPartialFloats;
  Sequence s{seq, numTasks_, rowBlocks, 0, numCounters_, totalPartials_, stride};
  if (splitUp && splits > 1 && fits) {
    s.splits = splits;
    numCounters_ += blocks;
    totalPartials_ += blocks * stride;
  } else {
    const int64_t rounds = ceilDiv(splits, roundSplits_);
    s.partialStride = rounds == 1 ? 0 : partialFloats();
    totalPartials_ += blocks * s.partialStride;
    numRounds_ = std::max(numRounds_, rounds);
  }
  numTasks_ += blocks * std::max<int64_t>(1, s.splits);
  sequences_.push_back(s);
}

AttentionPlan::Block AttentionPlan::blockOf(const Sequence& s, int64_t index) const {
  const int64_t perRowBlock = heads_.numKvHeads * headBlocks_;
  const int64_t row = index / perRowBlock * blockRows_;
  const int64_t unit = index % perRowBlock;
  const int64_t group = heads_.numHeads / heads_.numKvHeads;
  const int64_t inGroup = unit % headBlocks_ * blockHeads_;
  Block b{};
  b.seq = s.seq;
  b.kvHead = unit / headBlocks_;
  b.firstHead = b.kvHead * group + inGroup;
  b.heads = std::min(blockHeads_, group - inGroup);
  b.firstRow = batch_.rowStart[s.seq] + row;
  b.firstVisible = batch_.contextLen[s.seq] + row + 1;
  b.rows = std::min<int64_t>(blockRows_, batch_.rowCount[s.seq] - row);
  return b;
}

AttentionPlan::Task AttentionPlan::task(int64_t index) const {
  const auto after = std::upper_bound(sequences_.begin(), sequences_.end(), index,
                                      [](int64_t i, const Sequence& s) { return i < s.firstTask; });
  const Sequence& s = *(after - 1);
  const int64_t local = index - s.firstTask;
  if (s.splits == 0) return {blockOf(s, local), -1, 1, 0, s.firstPartial + local * s.partialStride};
  const int64_t block = local / s.splits;
  return {blockOf(s, block), local % s.splits, s.splits, s.firstCounter + block,
          s.firstPartial + block * s.partialStride};
}

int64_t AttentionPlan::threadFloats() const {
  // Queries, two partials, scores of a page, K and V of a page with room to pad rows, three small rows.
  return kQueryBlock * paddedDim_ + 2 * partialFloats() + kQueryBlock * kPageTokens +
         (2 * paddedDim_ + 16) * kPageTokens + 3 * kQueryBlock;
}

}  // namespace guildhall
