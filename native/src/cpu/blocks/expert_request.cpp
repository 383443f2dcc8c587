#include "expert_request.h"

namespace guildhall {

namespace {

/** Sizes of the frame's arrays against each other and the options. */
std::optional<std::string> checkSizes(const ExpertShardOptions& o, const ForwardFrame& f) {
  const int64_t rows = f.numRows;
  if (f.key.layer >= static_cast<uint64_t>(o.numLayers))
    return "layer " + std::to_string(f.key.layer) + " of " + std::to_string(o.numLayers);
  if (f.combineMode != CombineMode::kExact && f.combineMode != CombineMode::kPartial) return "unknown combine mode";
  if (rows == 0) return "no rows";
  if (f.rowEntries.size != 2 * rows) return "row_entries does not fit num_rows";
  if (f.rows.size != rows * o.hidden * rowFormatBytes(o.rowFormat)) {
    return std::to_string(f.rows.size) + " bytes of rows, expected " +
           std::to_string(rows * o.hidden * rowFormatBytes(o.rowFormat));
  }
  if (f.experts.size % 2 != 0 || f.weights.size != 2 * f.experts.size)
    return "experts and weights do not fit each other";
  return std::nullopt;
}

}  // namespace

std::optional<std::string> readEntries(const ExpertShardOptions& o, ExpertRequest& request) {
  const ForwardFrame& f = request.frame;
  if (auto problem = checkSizes(o, f)) return problem;
  const int64_t total = f.experts.size / 2;
  int64_t next = 0;
  request.rows.reserve(static_cast<size_t>(total));
  request.experts.reserve(static_cast<size_t>(total));
  for (int64_t r = 0; r < f.numRows; ++r) {
    const int64_t count = readU16(f.rowEntries, r);
    if (count == 0) return "row " + std::to_string(r) + " has no entries";
    if (count > total - next) return "row_entries counts more entries than there are";
    for (int64_t e = next; e < next + count; ++e) {
      const int32_t expert = readU16(f.experts, e);
      if (expert >= o.numExperts) return "expert " + std::to_string(expert) + " of " + std::to_string(o.numExperts);
      if (e > next && expert <= request.experts.back())
        return "experts of row " + std::to_string(r) + " are not ascending";
      request.rows.push_back(static_cast<int32_t>(r));
      request.experts.push_back(expert);
    }
    next += count;
  }
  if (next != total) return "row_entries counts fewer entries than there are";
  return std::nullopt;
}

ReplyFrame replyTo(const FrameKey& key, ReplyStatus status, uint32_t queueUs) {
  ReplyFrame reply;
  reply.key = key;
  reply.status = status;
  reply.queueUs = queueUs;
  return reply;
}

OwnedFrame encodeReply(const ReplyFrame& reply) {
  OwnedFrame out;
  out.size = replyFrameBytes(reply);
  out.data = std::make_unique<uint8_t[]>(static_cast<size_t>(out.size));
  writeReply(reply, out.data.get());
  return out;
}

OwnedFrame errorReply(const FrameKey& key, ReplyStatus status, const std::string& error, uint32_t queueUs) {
  ReplyFrame reply = replyTo(key, status, queueUs);
  reply.error = {reinterpret_cast<const uint8_t*>(error.data()), static_cast<int64_t>(error.size())};
  return encodeReply(reply);
}

OwnedFrame notHeldReply(const FrameKey& key, const std::vector<int32_t>& experts, uint32_t queueUs) {
  std::vector<uint8_t> bytes;
  for (const int32_t expert : experts) {
    bytes.push_back(static_cast<uint8_t>(expert & 0xff));
    bytes.push_back(static_cast<uint8_t>(expert >> 8));
  }
  ReplyFrame reply = replyTo(key, ReplyStatus::kNotHeld, queueUs);
  reply.notHeld = {bytes.data(), static_cast<int64_t>(bytes.size())};
  return encodeReply(reply);
}

OwnedFrame statusReply(ByteView frame, ReplyStatus status, const std::string& error) {
  ForwardFrame request;
  try {
    parseForward(frame, request);
  } catch (const BadFrame&) {
    request = {};
  }
  return errorReply(request.key, status, error, 0);
}

}  // namespace guildhall
