// The gated delta net between its projections: who runs which heads, and the order of the stages. Formulas in
// gated_delta_net.h.

#include "delta_chunk.h"
#include "delta_recurrent.h"
#include "delta_rows.h"
#include "kernels.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/** Value heads [first, first + count) of one sequence, which share a key head. */
class HeadGroup {
 public:
  HeadGroup(const DeltaNetArgs& args, int64_t seq, int64_t first, int64_t count, const DeltaBlock& block)
      : s_(args, seq),
        shape_(args.shape),
        b_(block),
        first_(first),
        count_(count),
        keyHead_(first / args.shape.valueHeadsPerKeyHead()) {}

  /** `next`: S that this thread will want after these heads, or null. */
  void run(const float* next) const {
    for (int64_t h = first_; h < first_ + count_; ++h) beginState(h);
    for (int64_t start = 0, n = 0; start < s_.rows; start += n) {
      n = s_.blockRows(start);
      prepareKeys(s_, b_, keyHead_, start, n);
      if (!s_.recurrent) multiplyKeys(b_, n, shape_.keyDim);
      for (int64_t h = first_; h < first_ + count_; ++h) {
        prepareValues(s_, b_, h, start, n);
        if (s_.recurrent) {
          const float* const following = h + 1 < first_ + count_ ? s_.headState(h + 1) : next;
          recurrentRows(b_, s_.headState(h), n, shape_.keyDim, shape_.valueDim, following);
        } else {
          DeltaChunk(b_, packedState(h), n, shape_.keyDim, shape_.valueDim).run();
        }
        finishRows(s_, b_, h, start, n);
        if (start + n == s_.snapshotRows) keepState(h, s_.snapshotState(h));
      }
    }
    if (!s_.recurrent) {
      for (int64_t h = first_; h < first_ + count_; ++h) keepState(h, s_.headState(h));
    }
    advanceConvState(s_, s_.valueColumn(first_), count_ * shape_.valueDim);
    if (count_ == shape_.valueHeadsPerKeyHead()) advanceKeys();
  }

  /** The convolution's state of q and k, once all value heads of the key head have read it. */
  void advanceKeys() const {
    advanceConvState(s_, s_.queryColumn(keyHead_), shape_.keyDim);
    advanceConvState(s_, s_.keyColumn(keyHead_), shape_.keyDim);
  }

  const float* firstState() const { return s_.headState(first_); }

 private:
  float* packedState(int64_t head) const { return b_.state + (head - first_) * b_.headState; }

  /** S as the first row finds it: panels in scratch, or in place. */
  void beginState(int64_t head) const {
    const float* const from = s_.initialState(head);
    if (!s_.recurrent) {
      if (from == nullptr) {
        clearFloats(packedState(head), b_.headState);
      } else {
        packState(from, packedState(head), shape_.keyDim, shape_.valueDim, b_.keyRow);
      }
    } else if (from == nullptr) {
      clearFloats(s_.headState(head), s_.headFloats());
    } else if (from != s_.headState(head)) {
      copyFloats(from, s_.headState(head), s_.headFloats());
    }
  }

  /** S as it is after the rows so far. */
  void keepState(int64_t head, float* to) const {
    if (s_.recurrent) {
      copyFloats(s_.headState(head), to, s_.headFloats());
    } else {
      unpackState(packedState(head), to, shape_.keyDim, shape_.valueDim, b_.keyRow);
    }
  }

  DeltaSequence s_;
  const DeltaNetShape& shape_;
  const DeltaBlock& b_;
  int64_t first_;
  int64_t count_;
  int64_t keyHead_;
};

/** Tasks that a thread takes at once: several when each is a single token, whose time is that of reading S. */
int64_t taskGrain(const BatchView& batch, int64_t tasks, int threads) {
  for (int64_t seq = 0; seq < batch.numSeqs; ++seq) {
    if (batch.rowCount[seq] > 1) return 1;
  }
  return maxInt(1, tasks / (4 * threads));
}

}  // namespace

void deltaNet(ParallelFor& par, const DeltaNetArgs& args) {
  const DeltaSizes sizes(args.shape);
  const auto has = [&](int64_t seq) { return args.batch.stateSlot[seq] >= 0 && args.batch.rowCount[seq] > 0; };
  // Value heads of a key head share its work, unless that leaves threads without any.
  const int64_t perKey = args.shape.valueHeadsPerKeyHead();
  const int64_t together = args.batch.numSeqs * args.shape.numKeyHeads >= 2 * par.threads() ? perKey : 1;
  const int64_t groups = args.shape.numValueHeads / together;
  const int64_t tasks = args.batch.numSeqs * groups;
  par.run(
      tasks,
      [&](int64_t begin, int64_t end, int thread) {
        const DeltaBlock block(args.scratch + thread * sizes.threadFloats(), sizes);
        for (int64_t task = begin; task < end; ++task) {
          if (!has(task / groups)) continue;
          const auto group = [&](int64_t i) {
            return HeadGroup(args, i / groups, i % groups * together, together, block);
          };
          const bool more = task + 1 < end && has((task + 1) / groups);
          group(task).run(more ? group(task + 1).firstState() : nullptr);
        }
      },
      taskGrain(args.batch, tasks, par.threads()));
  if (together == perKey) return;
  par.run(args.batch.numSeqs, [&](int64_t begin, int64_t end, int thread) {
    const DeltaBlock block(args.scratch + thread * sizes.threadFloats(), sizes);
    for (int64_t seq = begin; seq < end; ++seq) {
      if (!has(seq)) continue;
      for (int64_t h = 0; h < args.shape.numValueHeads; h += perKey) HeadGroup(args, seq, h, perKey, block).advanceKeys();
    }
  });
}

}  // namespace guildhall::GUILDHALL_ISA
