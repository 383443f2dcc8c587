#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "guildhall/frames.h"
#include "guildhall/memory.h"
#include "guildhall/ops/batch.h"
#include "guildhall/tensor.h"

namespace guildhall {

/** Borrowed int32 array. */
struct IntView {
  const int32_t* data = nullptr;
  int64_t size = 0;

  int32_t operator[](int64_t i) const { return data[i]; }
};

struct StepBuffersOptions {
  int64_t maxTokens = 0;
  int64_t hidden = 0;
  int64_t numExperts = 0;
  int64_t topK = 0;
  RowFormat rowFormat = RowFormat::kF32;
  int64_t maxLogitRows = 0;
  int64_t vocab = 0;
};

/** BatchSpec of native.ts. */
struct BatchSpec {
  IntView tokenIds, positions, rowStart, rowCount, contextLen, stateSlot, initState, snapshotSlot, snapshotRows, mode,
      pageTable;
  int64_t maxPages = 0;
};

/** A checked copy of a batch. */
class Batch {
 public:
  /** Throws InvalidArgument naming `spec.…`; leaves the old batch then. */
  void set(const BatchSpec& spec, const StepBuffersOptions& options);

  int64_t numTokens() const { return static_cast<int64_t>(tokenIds_.size()); }
  const std::vector<int32_t>& tokenIds() const { return tokenIds_; }
  const int32_t* positions() const { return positions_.data(); }
  BatchView view() const;
  /** Largest page and smallest and largest slot in use, to check against pools; -1 pages when there are none. */
  int32_t largestPage() const { return largestPage_; }
  int32_t smallestSlot() const { return smallestSlot_; }
  int32_t largestSlot() const { return largestSlot_; }
  /** Largest slot that a sequence begins from or leaves a snapshot in; negative when there are none. */
  int32_t largestInit() const { return largestInit_; }
  int32_t largestSnapshot() const { return largestSnapshot_; }
  bool hasPages() const { return maxPages_ > 0; }

 private:
  std::vector<int32_t> tokenIds_, positions_, rowStart_, rowCount_, contextLen_, stateSlot_, mode_, pageTable_;
  std::vector<int32_t> initState_, snapshotSlot_, snapshotRows_;
  int64_t maxPages_ = 0;
  int32_t largestPage_ = -1;
  int32_t smallestSlot_ = 0;
  int32_t largestSlot_ = -1;
  int32_t largestInit_ = -1;
  int32_t largestSnapshot_ = -1;
};

/** Request side of one message: which rows, and which of their experts. */
struct DispatchRows {
  IntView rowIndex, entryCount, experts;
  const float* weights = nullptr;
  int64_t numWeights = 0;
};

/**
 * Activations of one micro-batch. This class holds them in host memory. On a device these arrays are the host's side: what
 * the gate and the head leave for the host (top-k, logits, rows to dispatch) has to be in them when their forward ends, and
 * what `unpackReply` and `writeHidden` bring has to reach the device; the rest may stay there. Not synchronised: one native
 * call or the owner at a time.
 */
class StepBuffers {
 public:
  /** Throws InvalidArgument naming `options.…`. */
  StepBuffers(const StepBuffersOptions& options, std::shared_ptr<MemoryLedger> ledger);
  virtual ~StepBuffers() = default;

  const StepBuffersOptions& options() const { return options_; }
  const Batch& batch() const { return batch_; }
  int64_t numTokens() const { return batch_.numTokens(); }
  void setBatch(const BatchSpec& spec);

  float* hidden() const { return hidden_.as<float>(); }
  /** The hidden rows of the batch, [T][H], for tests and tools. */
  virtual void readHidden(float* out) const;
  virtual void writeHidden(const float* rows);
  /** f32 rows of the last gate's norm. */
  float* normed() const { return normed_.as<float>(); }
  /** The same rows in the row format: what is dispatched. */
  uint8_t* rows() const { return rows_.as<uint8_t>(); }
  int64_t rowBytes() const { return options_.hidden * rowFormatBytes(options_.rowFormat); }
  int32_t* topkIds() const { return topkIds_.as<int32_t>(); }
  float* topkWeights() const { return topkWeights_.as<float>(); }
  float* logits() const { return logits_.as<float>(); }
  float* shared() const { return shared_.as<float>(); }

  /**
   * Cosines and sines [tokens][half] each of the batch's positions; the layers of a step that share the frequencies fill
   * them once.
   */
  struct RopeTable {
    std::vector<float> invFreq;
    std::vector<int32_t> freqAxis;
    float scale = 0.0f;
    Buffer values;
    /** Whether it is of the batch that is set. */
    bool current = false;
  };
  RopeTable& ropeTable() { return ropeTable_; }
  const std::shared_ptr<MemoryLedger>& ledger() const { return ledger_; }

  /** Whether `shared` belongs to the last gate. */
  bool sharedPresent() const { return sharedPresent_; }
  void setSharedPresent(bool present) { sharedPresent_ = present; }
  /** Whether a gate has run on this batch. */
  bool gated() const { return gated_; }
  void setGated() { gated_ = true; }
  /** Logit rows that the last head wrote. */
  int64_t numLogitRows() const { return numLogitRows_; }
  void setNumLogitRows(int64_t n) { numLogitRows_ = n; }

  /** The ClientFrame for some rows; see native.ts. `header` gives the key, epoch, mode and traceparent. */
  int64_t forwardBytes(const ForwardFrame& header, const DispatchRows& rows) const;
  void packForward(const ForwardFrame& header, const DispatchRows& rows, uint8_t* out) const;

  void beginCombine();
  /** See native.ts. Takes all rows of the reply or, when it throws InvalidArgument, none. */
  virtual void unpackReply(ByteView frame, IntView slots, IntView entryCount, CombineMode mode);
  int64_t missing() const { return missing_; }

  /** What to add for slot t*K+k: nothing, the row times its gate weight, or the row as it is (partial sums). */
  enum class SlotState : uint8_t { kMissing = 0, kWeighted = 1, kSum = 2, kCovered = 3 };
  SlotState slotState(int64_t slot) const { return slotState_[static_cast<size_t>(slot)]; }
  const uint8_t* expertRow(int64_t slot) const { return expertRows_.as<uint8_t>() + slot * rowBytes(); }

 private:
  void checkDispatch(const ForwardFrame& header, const DispatchRows& rows) const;
  void checkReplySlots(IntView slots) const;

  StepBuffersOptions options_;
  std::shared_ptr<MemoryLedger> ledger_;
  Batch batch_;
  RopeTable ropeTable_;
  Buffer hidden_, normed_, rows_, topkIds_, topkWeights_, logits_, shared_, expertRows_;
  std::vector<SlotState> slotState_;
  int64_t missing_ = 0;
  int64_t numLogitRows_ = 0;
  bool sharedPresent_ = false;
  bool gated_ = false;
};

}  // namespace guildhall
