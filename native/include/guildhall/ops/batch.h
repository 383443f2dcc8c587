#pragma once

#include <cstdint>

namespace guildhall {

/** Tokens of a KV page. */
constexpr int kPageTokens = 64;

/** Chunk of the delta rule; chunks start at absolute multiples of this. */
constexpr int kDeltaChunk = 64;

/** How a sequence's rows go through the delta rule. */
constexpr int32_t kModeChunked = 0;
constexpr int32_t kModeRecurrent = 1;

/** Where a sequence's DeltaNet state begins; other values are the slot that holds a copy of it. */
constexpr int32_t kInitOwn = -1;
constexpr int32_t kInitZeros = -2;

/**
 * One micro-batch as the kernels see it: S sequences, sequence i owning rows [rowStart[i], rowStart[i] + rowCount[i])
 * of every [T][...] buffer. All pointers are borrowed; arrays have S entries. Checked by the caller:
 * row ranges are disjoint and inside the buffers, page ids and slots are inside their pools, counts are >= 0.
 */
struct BatchView {
  int32_t numSeqs = 0;
  const int32_t* rowStart = nullptr;
  const int32_t* rowCount = nullptr;
  /** Tokens that the sequence already has in pages and state. */
  const int32_t* contextLen = nullptr;
  /** DeltaNet slot of each sequence; distinct. A negative slot skips the sequence. */
  const int32_t* stateSlot = nullptr;
  /** kInitOwn, kInitZeros, or a slot that nobody in the batch writes. Null: all go on in their own. */
  const int32_t* initState = nullptr;
  /** Slot that takes the state after snapshotRows of the sequence's rows, negative for none; nobody else's. Null: none. */
  const int32_t* snapshotSlot = nullptr;
  /** 1 to rowCount; where the form is chunked, a multiple of kDeltaChunk past the first row. */
  const int32_t* snapshotRows = nullptr;
  /** kModeChunked or kModeRecurrent. */
  const int32_t* mode = nullptr;
  /** [S][maxPages]: page of tokens [64p, 64p + 64) of the sequence. */
  const int32_t* pageTable = nullptr;
  int64_t maxPages = 0;
};

}  // namespace guildhall
