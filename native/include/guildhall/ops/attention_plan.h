#pragma once

#include <cstdint>
#include <vector>

#include "guildhall/ops/batch.h"

namespace guildhall {

/** Pages per split of the context; partial softmax results are merged in order of splits, whatever the batch. */
constexpr int64_t kSplitPages = 16;
constexpr int64_t kSplitTokens = kSplitPages * kPageTokens;

/** Query vectors (row, head) that share the loads of a page. */
constexpr int64_t kQueryBlock = 64;

/** Heads of one attention layer. */
struct AttentionHeads {
  int64_t numHeads = 0;
  int64_t numKvHeads = 0;
  int64_t headDim = 0;
};

/**
 * How one call of paged attention is cut into tasks: blocks of query vectors of one sequence and kv head, and where a block
 * is a large part of the whole work, the splits of its context too. Blocks that go through their splits one after the other
 * do so in rounds of a few splits, so that a call over a long context can be interrupted every millisecond. It never changes
 * a bit of the result.
 */
class AttentionPlan {
 public:
  /** Query vectors rows x heads of one sequence and kv head; vector m is row m / heads, head m % heads. */
  struct Block {
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
    int64_t splits() const { return (mostVisible() + kSplitTokens - 1) / kSplitTokens; }
  };

  struct Task {
    Block block;
    /** The split to compute, or -1 for those of a round. */
    int64_t split;
    /** With a split: tasks of the block and its counter. */
    int64_t tasks;
    int64_t counter;
    /** Floats to the block's partial: of split 0, or what it keeps from round to round. */
    int64_t partials;
  };

  /** `batch` is borrowed until the call is over. */
  void set(const BatchView& batch, const AttentionHeads& heads, int threads);

  int64_t numTasks() const { return numTasks_; }
  /** Rounds over all tasks; those after the first are for tasks without a split whose blocks have more splits. */
  int64_t numRounds() const { return numRounds_; }
  /** Splits of a block in one round. */
  int64_t roundSplits() const { return roundSplits_; }
  /** Task `index`, 0 <= index < numTasks(). */
  Task task(int64_t index) const;

  /** headDim rounded up to whole units of 32. */
  int64_t paddedDim() const { return paddedDim_; }
  /** Floats of one partial: maximum, sum and accumulator of each query vector of a block. */
  int64_t partialFloats() const { return kQueryBlock * (paddedDim_ + 2); }
  /** Floats of one thread's buffers. */
  int64_t threadFloats() const;
  /** Split blocks, each with a counter of the splits that are done. */
  int64_t numCounters() const { return numCounters_; }
  /** Where partials and counters start in the scratch. */
  int64_t partialsStart() const { return threads_ * threadFloats(); }
  int64_t countersStart() const { return partialsStart() + totalPartials_; }
  /** Floats of scratch that the call needs. */
  int64_t scratchFloats() const { return countersStart() + numCounters_; }

 private:
  struct Sequence {
    int64_t seq;
    int64_t firstTask;
    int64_t rowBlocks;
    /** Tasks per block: 0 for one that goes through all splits. */
    int64_t splits;
    int64_t firstCounter;
    int64_t firstPartial;
    /** Floats from one block's partials to the next; 0 for blocks of a single round. */
    int64_t partialStride;
  };

  Block blockOf(const Sequence& s, int64_t index) const;
  int64_t blockCost(int64_t seq) const;
  void add(int64_t seq, bool splitUp);

  BatchView batch_;
  AttentionHeads heads_;
  int64_t threads_ = 1;
  int64_t blockHeads_ = 1, blockRows_ = 1, headBlocks_ = 1;
  int64_t numRounds_ = 1, roundSplits_ = 1;
  int64_t paddedDim_ = 0;
  int64_t numTasks_ = 0, numCounters_ = 0, totalPartials_ = 0;
  std::vector<Sequence> sequences_;
};

}  // namespace guildhall
