#pragma once

// A block of at most 64 rows of one sequence in a thread's scratch, and the rows of that sequence in the caller's buffers.

#include "delta_scratch.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

// Register tiles: enough independent chains to hide the latency of fma.
#if defined(GUILDHALL_ISA_AVX512)
constexpr int kTileRows = 8;
constexpr int kTileVecs = 2;
#elif defined(GUILDHALL_ISA_AVX2)
constexpr int kTileRows = 4;
constexpr int kTileVecs = 1;
#else
constexpr int kTileRows = 2;
constexpr int kTileVecs = 1;
#endif

/** Value columns that go through a chunk together: their part of S, D and O stays in the L1 cache. */
constexpr int64_t kPanel = kTileVecs * kLanes;
static_assert(kWidestPanel % kPanel == 0);

/**
 * Scratch of a thread. Rows past the block's last, columns past keyDim and valueDim hold anything; no sum that counts
 * takes them in.
 */
struct DeltaBlock {
  int64_t keyRow;
  int64_t headState;
  /** [64][keyRow]. */
  float* q;
  float* k;
  /** K transposed, [keyRow][64]. */
  float* keysT;
  /** K K^T and Q K^T, of which j <= i, [64][64]. */
  float* keyKey;
  float* queryKey;
  /** Of one value head: the negated lower triangle of the system, and Q K^T times the decays, [64][64]. */
  float* system;
  float* scores;
  /** V, then D times exp(last - G), and O: panels of [64][kPanel]. */
  float* values;
  float* out;
  /** D of one panel. */
  float* delta;
  /** Per row: beta, g, cumsum(g), exp of it, exp(last - it). */
  float* beta;
  float* g;
  float* total;
  float* decay;
  float* rest;
  /** S of the value heads of a key head: panels of [keyRow][kPanel]. */
  float* state;

  DeltaBlock(float* base, const DeltaSizes& sizes) : keyRow(sizes.keyRow), headState(sizes.headState) {
    float* next = base + (16 - reinterpret_cast<uintptr_t>(base) / sizeof(float) % 16) % 16;
    const auto take = [&next](int64_t floats) {
      float* const at = next;
      next += floats;
      return at;
    };
    q = take(sizes.keys);
    k = take(sizes.keys);
    keysT = take(sizes.keys);
    keyKey = take(sizes.square);
    queryKey = take(sizes.square);
    system = take(sizes.square);
    scores = take(sizes.square);
    values = take(sizes.values);
    out = take(sizes.values);
    delta = take(kDeltaChunk * kWidestPanel);
    beta = take(sizes.rowFloats);
    g = take(sizes.rowFloats);
    total = take(sizes.rowFloats);
    decay = take(sizes.rowFloats);
    rest = take(sizes.rowFloats);
    state = take(sizes.state);
  }

  /** Element (row, col) of values or out. */
  static GH_INLINE int64_t at(int64_t row, int64_t col) {
    return (col / kPanel * kDeltaChunk + row) * kPanel + col % kPanel;
  }
};

/** Where a sequence's state lies: S, and the rows of the convolution. */
struct DeltaSlot {
  float* state;
  float* conv;

  DeltaSlot(const DeltaNetArgs& a, int64_t slot)
      : state(a.state + slot * a.stateStride), conv(a.convState + slot * a.stateStride) {}
};

/** One sequence of the batch. */
struct DeltaSequence {
  const DeltaNetArgs& args;
  const float* x;
  float* out;
  DeltaSlot own;
  /** The slot that takes the state after `snapshotRows` rows; they are 0 where there is none. */
  DeltaSlot snapshot;
  int64_t snapshotRows;
  /** S that the first row finds, null for zeros, and the row of the convolution before it. */
  const float* initial;
  const float* past;
  /** To the row after it. */
  int64_t pastStride;
  int64_t rows;
  bool recurrent;

  DeltaSequence(const DeltaNetArgs& a, int64_t seq)
      : args(a),
        x(a.x + a.batch.rowStart[seq] * a.xRowStride),
        out(a.out + a.batch.rowStart[seq] * a.outRowStride),
        own(a, a.batch.stateSlot[seq]),
        snapshot(own),
        snapshotRows(0),
        initial(own.state),
        past(own.conv),
        pastStride(a.shape.channels()),
        rows(a.batch.rowCount[seq]),
        recurrent(a.batch.mode[seq] == kModeRecurrent) {
    begin(a.batch.initState == nullptr ? kInitOwn : a.batch.initState[seq]);
    if (a.batch.snapshotSlot != nullptr && a.batch.snapshotSlot[seq] >= 0) {
      snapshot = DeltaSlot(a, a.batch.snapshotSlot[seq]);
      snapshotRows = a.batch.snapshotRows[seq];
    }
  }

  /** Rows of the block at `start`; one ends where the snapshot is taken, which does not change a bit. */
  int64_t blockRows(int64_t start) const {
    const int64_t end = start < snapshotRows ? snapshotRows : rows;
    return end - start < kDeltaChunk ? end - start : kDeltaChunk;
  }
  /** Raw row t, negative ones from the state. */
  const float* rawRow(int64_t t) const {
    return t < 0 ? past + (args.convKernel - 1 + t) * pastStride : x + t * args.xRowStride;
  }
  int64_t queryColumn(int64_t keyHead) const { return keyHead * args.shape.keyDim; }
  int64_t keyColumn(int64_t keyHead) const { return (args.shape.numKeyHeads + keyHead) * args.shape.keyDim; }
  int64_t valueColumn(int64_t head) const {
    return 2 * args.shape.numKeyHeads * args.shape.keyDim + head * args.shape.valueDim;
  }
  int64_t gateColumn(int64_t head) const { return args.shape.channels() + head * args.shape.valueDim; }
  /** b of value head 0; a follows after numValueHeads. */
  int64_t scalarColumn() const { return args.shape.channels() + args.shape.numValueHeads * args.shape.valueDim; }
  int64_t headFloats() const { return args.shape.keyDim * args.shape.valueDim; }
  float* headState(int64_t head) const { return own.state + head * headFloats(); }
  float* snapshotState(int64_t head) const { return snapshot.state + head * headFloats(); }
  /** Null for zeros. */
  const float* initialState(int64_t head) const { return initial == nullptr ? nullptr : initial + head * headFloats(); }

 private:
  void begin(int32_t init) {
    if (init == kInitZeros) {
      initial = nullptr;
      past = args.zeros;
      pastStride = 0;
    } else if (init >= 0) {
      const DeltaSlot other(args, init);
      initial = other.state;
      past = other.conv;
    }
  }
};

}  // namespace guildhall::GUILDHALL_ISA
