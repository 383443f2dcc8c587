#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "guildhall/tensor.h"

// Wire form of ClientFrame{Forward} and ServerFrame{ForwardReply} of proto/guildhall/v1/experts.proto. Fields may come
// in any order, the last one of a number counts, unknown ones are skipped. Views borrow the frame's bytes.

namespace guildhall {

/** Bytes that are not the message they should be. */
class BadFrame : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class CombineMode : int32_t { kUnspecified = 0, kExact = 1, kPartial = 2 };

enum class ReplyStatus : int32_t {
  kUnspecified = 0,
  kOk = 1,
  kNotHeld = 2,
  kBusy = 3,
  kInvalid = 4,
  kFailed = 5,
};

/** Bytes of any alignment. */
struct ByteView {
  const uint8_t* data = nullptr;
  int64_t size = 0;
};

/** A frame, or other bytes, in memory of its own. */
struct OwnedFrame {
  std::unique_ptr<uint8_t[]> data;
  int64_t size = 0;
};

inline uint16_t readU16(const ByteView& view, int64_t index) {
  return static_cast<uint16_t>(view.data[2 * index] | view.data[2 * index + 1] << 8);
}
float readF32(const ByteView& view, int64_t index);

/** What a reply repeats of its request. */
struct FrameKey {
  uint64_t routerIncarnation = 0;
  uint32_t step = 0;
  uint32_t layer = 0;
  uint32_t microBatch = 0;
  uint32_t attempt = 0;
  uint32_t part = 0;
};

struct ForwardFrame {
  FrameKey key;
  uint32_t epoch = 0;
  uint32_t numRows = 0;
  CombineMode combineMode = CombineMode::kUnspecified;
  ByteView traceparent;
  ByteView rowEntries;
  ByteView experts;
  ByteView weights;
  ByteView rows;
};

struct ReplyFrame {
  FrameKey key;
  ReplyStatus status = ReplyStatus::kUnspecified;
  uint32_t numRows = 0;
  uint32_t computeUs = 0;
  uint32_t queueUs = 0;
  ByteView notHeld;
  ByteView error;
  ByteView rows;
};

/**
 * Reads the wire form only: lengths and types, not whether fields fit each other. Throws BadFrame; what had been read
 * by then is in `out`.
 */
void parseForward(ByteView frame, ForwardFrame& out);
void parseReply(ByteView frame, ReplyFrame& out);

/** Bytes of the frame that `writeForward` writes. */
int64_t forwardFrameBytes(const ForwardFrame& forward);
/**
 * Writes a frame with room for `rows.size` bytes of rows at its end and returns where they start; the pointers of the
 * other views are copied from. `rows.data` is not read. `traceparent` is left out when empty.
 */
uint8_t* writeForward(const ForwardFrame& forward, uint8_t* out);

int64_t replyFrameBytes(const ReplyFrame& reply);
uint8_t* writeReply(const ReplyFrame& reply, uint8_t* out);

}  // namespace guildhall
