#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "guildhall/expert_shard.h"

namespace guildhall {

/** A forward message with its entries, one (row, expert) each, row by row. */
struct ExpertRequest {
  ForwardFrame frame;
  /** Row and expert of each entry; experts ascend within a row. */
  std::vector<int32_t> rows, experts;
};

/** Why a request whose frame was parsed breaks the contract, or nothing; fills the entries. */
std::optional<std::string> readEntries(const ExpertShardOptions& options, ExpertRequest& request);

ReplyFrame replyTo(const FrameKey& key, ReplyStatus status, uint32_t queueUs);
OwnedFrame encodeReply(const ReplyFrame& reply);
OwnedFrame errorReply(const FrameKey& key, ReplyStatus status, const std::string& error, uint32_t queueUs);
OwnedFrame notHeldReply(const FrameKey& key, const std::vector<int32_t>& experts, uint32_t queueUs);

}  // namespace guildhall
