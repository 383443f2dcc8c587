#pragma once

// What the kernels of paged attention share. A task is a block of query vectors, (row, head) pairs of one sequence and
// one kv head, which share the loads of a page. Per query vector the arithmetic is fixed: pages in order inside a split with
// an online softmax, splits merged in order. Tasks differ only in which query vectors and splits they hold.

#include "guildhall/ops/attention.h"
#include "guildhall/parallel.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

using QueryBlock = AttentionPlan::Block;

/** Running softmax of a block: maximum, sum and unnormalised output of each query vector. */
struct Partial {
  float* max;
  float* sum;
  float* acc;

  Partial(float* base, int64_t vectors) : max(base), sum(base + vectors), acc(base + 2 * vectors) {}
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

  Buffers(float* base, const AttentionPlan& plan)
      : query(base),
        scores(query + kQueryBlock * plan.paddedDim()),
        keys(scores + kQueryBlock * kPageTokens),
        values(keys + plan.paddedDim() * kPageTokens),
        small(values + (plan.paddedDim() + 16) * kPageTokens),
        running(small + 3 * kQueryBlock, kQueryBlock),
        split(small + 3 * kQueryBlock + plan.partialFloats(), kQueryBlock) {}
};

/** First query vector of a block that sees tokens from `token` on. */
static GH_INLINE int64_t firstSeeing(const QueryBlock& block, int64_t token) {
  const int64_t skippedRows = token + 1 - block.firstVisible;
  return skippedRows <= 0 ? 0 : skippedRows * block.heads;
}

static GH_INLINE float firstLane(F32x16 v) {
  float lanes[kLanes];
  store(lanes, v);
  return lanes[0];
}

/**
 * A block's passes over splits. Pages holds the arithmetic of a page:
 *   Pages(args, block, buffers, paddedDim); loadQueries(); runPage(token, partial, nextToken or -1);
 *   static F32x16 weight(F32x16 x), the exponential whose base its scores are for.
 */
template <typename Pages>
class BlockAttention {
 public:
  BlockAttention(const AttentionArgs& args, const QueryBlock& block, const Buffers& buffers)
      : args_(args),
        block_(block),
        dim_(args.kv.headDim),
        paddedDim_(args.plan->paddedDim()),
        pages_(args, block, buffers, args.plan->paddedDim()) {
    pages_.loadQueries();
  }

  /** Softmax over the tokens of one split that each query vector sees; vectors that see none keep sum 0. goesOn: the next split follows. */
  void runSplit(int64_t split, const Partial& to, bool goesOn) {
    for (int64_t m = 0; m < block_.count(); ++m) {
      to.max[m] = -__builtin_inff();
      to.sum[m] = 0.0f;
      float* acc = to.acc + m * paddedDim_;
      eachVector(paddedDim_, [=](int64_t i, Mask16) { store(acc + i, zero()); });
    }
    const int64_t end = minInt((split + 1) * kSplitTokens, block_.mostVisible());
    for (int64_t token = split * kSplitTokens; token < end; token += kPageTokens) {
      const int64_t next = token + kPageTokens;
      pages_.runPage(token, to, next < (goesOn ? block_.mostVisible() : end) ? next : -1);
    }
  }

  /** into = into merged with `from`, for query vectors that see the split. */
  void merge(int64_t split, const Partial& into, const Partial& from) {
    for (int64_t m = 0; m < block_.count(); ++m) {
      if (block_.visible(m) <= split * kSplitTokens) continue;
      float* acc = into.acc + m * paddedDim_;
      const float* other = from.acc + m * paddedDim_;
      const float top = maxFloat(into.max[m], from.max[m]);
      const F32x16 keep = Pages::weight(splat(into.max[m] - top));
      const F32x16 take = Pages::weight(splat(from.max[m] - top));
      into.max[m] = top;
      into.sum[m] = firstLane(fma(splat(into.sum[m]), keep, mul(splat(from.sum[m]), take)));
      eachVector(paddedDim_,
                 [=](int64_t i, Mask16) { store(acc + i, fma(load(acc + i), keep, mul(load(other + i), take))); });
    }
  }

  void writeOut(const Partial& from) {
    for (int64_t m = 0; m < block_.count(); ++m) {
      const int64_t row = block_.firstRow + m / block_.heads;
      const int64_t head = block_.firstHead + m % block_.heads;
      float* out = args_.out + row * args_.outRowStride + head * args_.outHeadStride;
      const F32x16 inverse = splat(1.0f / from.sum[m]);
      const float* acc = from.acc + m * paddedDim_;
      if (args_.gate == nullptr) {
        eachVector(dim_, [=](int64_t i, Mask16 lanes) { store(out + i, mul(load(acc + i), inverse), lanes); });
        continue;
      }
      const float* gate = args_.gate + row * args_.qRowStride + head * args_.qHeadStride;
      eachVector(dim_, [=](int64_t i, Mask16 lanes) {
        store(out + i, mul(mul(load(acc + i), inverse), sigmoid(load(gate + i, lanes))), lanes);
      });
    }
  }

 private:
  const AttentionArgs& args_;
  const QueryBlock& block_;
  int64_t dim_;
  int64_t paddedDim_;
  Pages pages_;
};

/** A round's splits of a block, one after the other. What they give stays in the block's partial until the next round. */
template <typename Pages>
void runRound(const AttentionArgs& args, const AttentionPlan::Task& task, int64_t round, const Buffers& buffers) {
  const AttentionPlan& plan = *args.plan;
  const QueryBlock& block = task.block;
  const int64_t first = round * plan.roundSplits();
  const int64_t end = minInt(first + plan.roundSplits(), block.splits());
  if (first >= end) return;
  const bool single = end == block.splits() && round == 0;
  const Partial running =
      single ? buffers.running : Partial(args.scratch + plan.partialsStart() + task.partials, kQueryBlock);
  BlockAttention<Pages> work(args, block, buffers);
  if (round == 0) work.runSplit(0, running, end > 1);
  for (int64_t split = maxInt(first, 1); split < end; ++split) {
    work.runSplit(split, buffers.split, split + 1 < end);
    work.merge(split, running, buffers.split);
  }
  if (end == block.splits()) work.writeOut(running);
}

/** One split of a block; whoever ends its last one merges them in order and writes the block's output. */
template <typename Pages>
void runSplit(const AttentionArgs& args, const AttentionPlan::Task& task, const Buffers& buffers) {
  const QueryBlock& block = task.block;
  float* const partials = args.scratch + args.plan->partialsStart() + task.partials;
  const int64_t stride = block.count() * (args.plan->paddedDim() + 2);
  const auto partialAt = [&](int64_t split) { return Partial(partials + split * stride, block.count()); };
  BlockAttention<Pages> work(args, block, buffers);
  if (task.split < block.splits()) work.runSplit(task.split, partialAt(task.split), false);
  auto* const counter = reinterpret_cast<int32_t*>(args.scratch + args.plan->countersStart()) + task.counter;
  if (__atomic_add_fetch(counter, 1, __ATOMIC_ACQ_REL) != task.tasks) return;
  for (int64_t split = 1; split < block.splits(); ++split) work.merge(split, partialAt(0), partialAt(split));
  work.writeOut(partialAt(0));
}

/** All tasks of the plan. */
template <typename Pages>
void runAttention(ParallelFor& par, const AttentionArgs& args) {
  const AttentionPlan& plan = *args.plan;
  auto* const counters = reinterpret_cast<int32_t*>(args.scratch + plan.countersStart());
  for (int64_t i = 0; i < plan.numCounters(); ++i) counters[i] = 0;
  for (int64_t round = 0; round < plan.numRounds(); ++round) {
    par.run(plan.numTasks(), [&](int64_t begin, int64_t end, int thread) {
      const Buffers buffers(args.scratch + thread * plan.threadFloats(), plan);
      for (int64_t n = begin; n < end; ++n) {
        const AttentionPlan::Task task = plan.task(n);
        if (task.split < 0) {
          runRound<Pages>(args, task, round, buffers);
        } else if (round == 0) {
          runSplit<Pages>(args, task, buffers);
        }
      }
    });
  }
}

}  // namespace guildhall::GUILDHALL_ISA
