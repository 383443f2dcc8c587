// Serves forward messages: rows grouped by expert, one packed product per expert and projection.

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>

#include "blocks.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

/** The packed weights of one expert. */
struct PackedExpert {
  /** Rows [gate | up]. */
  PackedLinear gateUp;
  PackedLinear down;
};

using ExpertPtr = std::shared_ptr<const PackedExpert>;

/** One (row, expert) of a request. */
struct Entry {
  int64_t row;
  int32_t expert;
};

/** Consecutive entries, in order of experts, that share an expert. */
struct Group {
  ExpertPtr expert;
  int64_t begin;
  int64_t count;
};

struct Request {
  ForwardFrame frame;
  std::vector<Entry> entries;
};

/** Why a request breaks the contract, or nothing; fills the entries. */
std::optional<std::string> readEntries(const ExpertShardOptions& o, Request& request) {
  const ForwardFrame& f = request.frame;
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
  const int64_t total = f.experts.size / 2;
  int64_t next = 0;
  request.entries.reserve(static_cast<size_t>(total));
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t count = readU16(f.rowEntries, r);
    if (count == 0) return "row " + std::to_string(r) + " has no entries";
    if (count > total - next) return "row_entries counts more entries than there are";
    for (int64_t e = next; e < next + count; ++e) {
      const int32_t expert = readU16(f.experts, e);
      if (expert >= o.numExperts) return "expert " + std::to_string(expert) + " of " + std::to_string(o.numExperts);
      if (e > next && expert <= request.entries.back().expert)
        return "experts of row " + std::to_string(r) + " are not ascending";
      request.entries.push_back({r, expert});
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

OwnedFrame encode(const ReplyFrame& reply) {
  OwnedFrame out;
  out.size = replyFrameBytes(reply);
  out.data = std::make_unique<uint8_t[]>(static_cast<size_t>(out.size));
  writeReply(reply, out.data.get());
  return out;
}

OwnedFrame errorReply(const FrameKey& key, ReplyStatus status, const std::string& error, uint32_t queueUs) {
  ReplyFrame reply = replyTo(key, status, queueUs);
  reply.error = {reinterpret_cast<const uint8_t*>(error.data()), static_cast<int64_t>(error.size())};
  return encode(reply);
}

class CpuExpertShard final : public ExpertShard {
 public:
  CpuExpertShard(CpuContextPtr cpu, const ExpertShardOptions& options)
      : cpu_(std::move(cpu)),
        options_(options),
        family_(cpu_->family(options.format)),
        experts_(static_cast<size_t>(options.numLayers * options.numExperts)) {}

  const ExpertShardOptions& options() const override { return options_; }

  int64_t expertBytes() const override {
    return PackedLinear::packedBytes(2 * options_.intermediate, options_.hidden, family_) +
           PackedLinear::packedBytes(options_.hidden, options_.intermediate, family_);
  }

  void checkLoad(int64_t layer, int64_t expert, const ExpertWeights& w) const override {
    checkAddress(layer, expert);
    w.gate.checkShape("gate", options_.intermediate, options_.hidden);
    w.up.checkShape("up", options_.intermediate, options_.hidden);
    w.down.checkShape("down", options_.hidden, options_.intermediate);
  }

  void load(int64_t layer, int64_t expert, const ExpertWeights& w) override {
    auto packed = std::make_shared<PackedExpert>();
    packed->gateUp = PackedLinear::pack({w.gate, w.up}, family_, cpu_->ledger);
    packed->down = PackedLinear::pack({w.down}, family_, cpu_->ledger);
    const std::lock_guard<std::mutex> lock(mutex_);
    experts_[indexOf(layer, expert)] = std::move(packed);
  }

  bool unload(int64_t layer, int64_t expert) override {
    checkAddress(layer, expert);
    ExpertPtr old;  // freed outside the lock
    const std::lock_guard<std::mutex> lock(mutex_);
    old.swap(experts_[indexOf(layer, expert)]);
    return old != nullptr;
  }

  bool has(int64_t layer, int64_t expert) const override {
    checkAddress(layer, expert);
    const std::lock_guard<std::mutex> lock(mutex_);
    return experts_[indexOf(layer, expert)] != nullptr;
  }

  std::vector<int32_t> held(int64_t layer) const override {
    checkRange("layer", layer, 0, options_.numLayers - 1);
    std::vector<int32_t> result;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (int64_t e = 0; e < options_.numExperts; ++e) {
      if (experts_[indexOf(layer, e)]) result.push_back(static_cast<int32_t>(e));
    }
    return result;
  }

  OwnedFrame forward(ByteView bytes, uint32_t queueUs) override {
    const auto start = std::chrono::steady_clock::now();
    Request request;
    try {
      parseForward(bytes, request.frame);
    } catch (const BadFrame& error) {
      return errorReply({}, ReplyStatus::kInvalid, error.what(), queueUs);
    }
    const FrameKey key = request.frame.key;
    if (const auto problem = readEntries(options_, request)) {
      return errorReply(key, ReplyStatus::kInvalid, *problem, queueUs);
    }
    std::vector<int64_t> order;
    std::vector<int32_t> notHeld;
    const std::vector<Group> groups = groupByExpert(request, order, notHeld);
    if (!notHeld.empty()) return notHeldReply(key, notHeld, queueUs);

    const float* const rows = compute(request, groups, order);
    return okReply(request, rows, order, queueUs, start);
  }

 private:
  void checkAddress(int64_t layer, int64_t expert) const {
    checkRange("layer", layer, 0, options_.numLayers - 1);
    checkRange("expert", expert, 0, options_.numExperts - 1);
  }
  size_t indexOf(int64_t layer, int64_t expert) const {
    return static_cast<size_t>(layer * options_.numExperts + expert);
  }

  /** `order` lists the entries by expert; groups refer to it. Experts without weights go to `notHeld`, ascending. */
  std::vector<Group> groupByExpert(const Request& request, std::vector<int64_t>& order,
                                   std::vector<int32_t>& notHeld) const {
    const auto& entries = request.entries;
    order.resize(entries.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return entries[static_cast<size_t>(a)].expert < entries[static_cast<size_t>(b)].expert;
    });
    std::vector<Group> groups;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
      const int32_t expert = entries[static_cast<size_t>(order[begin])].expert;
      while (end < order.size() && entries[static_cast<size_t>(order[end])].expert == expert) ++end;
      ExpertPtr packed = experts_[indexOf(request.frame.key.layer, expert)];
      if (packed) {
        groups.push_back({std::move(packed), static_cast<int64_t>(begin), static_cast<int64_t>(end - begin)});
      } else {
        notHeld.push_back(expert);
      }
    }
    return groups;
  }

  /** Expert outputs [entries][hidden] in f32, in the order of `order`. */
  const float* compute(const Request& request, const std::vector<Group>& groups, const std::vector<int64_t>& order) {
    Arena& arena = cpu_->arena;
    const auto total = static_cast<int64_t>(order.size());
    const int64_t both = 2 * options_.intermediate;
    float* const gateUp = arena.take<float>(total * both);
    runGroups(groups, &PackedExpert::gateUp, gather(request, order), gateUp, both);

    SiluMulArgs act;
    act.gate = gateUp;
    act.up = gateUp + options_.intermediate;
    act.gateStride = act.upStride = both;
    act.out = arena.take<float>(total * options_.intermediate);
    act.outStride = options_.intermediate;
    act.rows = total;
    act.cols = options_.intermediate;
    cpu_->ops.siluMul(cpu_->pool, act);

    float* const out = arena.take<float>(total * options_.hidden);
    const MatmulInput input =
        prepareInput(cpu_->matmul, family_, act.out, options_.intermediate, total, options_.intermediate, arena, cpu_->pool);
    runGroups(groups, &PackedExpert::down, input, out, options_.hidden);
    return out;
  }

  void runGroups(const std::vector<Group>& groups, PackedLinear PackedExpert::* weight, const MatmulInput& input,
                 float* y, int64_t yStride) {
    std::vector<MatmulJob> jobs;
    jobs.reserve(groups.size());
    for (const Group& group : groups) {
      jobs.push_back({&((*group.expert).*weight), input.from(group.begin), group.count, y + group.begin * yStride, yStride});
    }
    matmul(cpu_->matmul, cpu_->pool, jobs);
  }

  /** The request's rows, one per entry in the order of `order`, as the family's kernels read them. */
  MatmulInput gather(const Request& request, const std::vector<int64_t>& order) {
    const int64_t hidden = options_.hidden;
    const int64_t rowBytes = hidden * rowFormatBytes(options_.rowFormat);
    const auto total = static_cast<int64_t>(order.size());
    float* const rows = cpu_->arena.take<float>(total * hidden);
    cpu_->pool.run(
        total,
        [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t row = request.entries[static_cast<size_t>(order[static_cast<size_t>(i)])].row;
            cpu_->rows.widen(request.frame.rows.data + row * rowBytes, options_.rowFormat, rows + i * hidden, hidden);
          }
        },
        16);
    return prepareInput(cpu_->matmul, family_, rows, hidden, total, hidden, cpu_->arena, cpu_->pool);
  }

  OwnedFrame notHeldReply(const FrameKey& key, const std::vector<int32_t>& experts, uint32_t queueUs) const {
    std::vector<uint8_t> bytes;
    for (const int32_t expert : experts) {
      bytes.push_back(static_cast<uint8_t>(expert & 0xff));
      bytes.push_back(static_cast<uint8_t>(expert >> 8));
    }
    ReplyFrame reply = replyTo(key, ReplyStatus::kNotHeld, queueUs);
    reply.notHeld = {bytes.data(), static_cast<int64_t>(bytes.size())};
    return encode(reply);
  }

  OwnedFrame okReply(const Request& request, const float* outputs, const std::vector<int64_t>& order, uint32_t queueUs,
                     std::chrono::steady_clock::time_point start) {
    const bool exact = request.frame.combineMode == CombineMode::kExact;
    const int64_t rowBytes = options_.hidden * rowFormatBytes(options_.rowFormat);
    const int64_t numRows = exact ? static_cast<int64_t>(order.size()) : request.frame.numRows;
    ReplyFrame reply = replyTo(request.frame.key, ReplyStatus::kOk, queueUs);
    reply.numRows = static_cast<uint32_t>(numRows);
    reply.rows.size = numRows * rowBytes;
    OwnedFrame frame;
    frame.size = replyFrameBytes(reply);
    frame.data.reset(new uint8_t[static_cast<size_t>(frame.size)]);
    uint8_t* const rows = frame.data.get() + frame.size - reply.rows.size;
    if (exact) {
      writeExact(outputs, order, rows, rowBytes);
    } else {
      writePartial(request, outputs, order, rows, rowBytes);
    }
    const auto elapsed = std::chrono::steady_clock::now() - start;
    reply.computeUs = static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
    writeReply(reply, frame.data.get());
    return frame;
  }

  void writeExact(const float* outputs, const std::vector<int64_t>& order, uint8_t* rows, int64_t rowBytes) {
    cpu_->pool.run(
        static_cast<int64_t>(order.size()),
        [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) {
            cpu_->rows.round(outputs + i * options_.hidden, rows + order[static_cast<size_t>(i)] * rowBytes,
                             options_.rowFormat, options_.hidden);
          }
        },
        16);
  }

  /** One weighted sum per row, ascending by expert, rounded once. */
  void writePartial(const Request& request, const float* outputs, const std::vector<int64_t>& order, uint8_t* rows,
                    int64_t rowBytes) {
    const int64_t hidden = options_.hidden;
    std::vector<int64_t> place(order.size());
    for (size_t i = 0; i < order.size(); ++i) place[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
    float* const sum = cpu_->arena.take<float>(hidden);
    size_t entry = 0;
    for (int64_t r = 0; r < request.frame.numRows; ++r) {
      std::fill_n(sum, hidden, 0.0f);
      for (; entry < place.size() && request.entries[entry].row == r; ++entry) {
        const float weight = readF32(request.frame.weights, static_cast<int64_t>(entry));
        const auto* const row = reinterpret_cast<const uint8_t*>(outputs + place[entry] * hidden);
        cpu_->rows.addWeighted(sum, row, RowFormat::kF32, weight, hidden);
      }
      cpu_->rows.round(sum, rows + r * rowBytes, options_.rowFormat, hidden);
    }
  }

  CpuContextPtr cpu_;
  ExpertShardOptions options_;
  KernelFamily family_;
  mutable std::mutex mutex_;
  /** [layer][expert]; guarded by mutex_. */
  std::vector<ExpertPtr> experts_;
};

}  // namespace

OwnedFrame statusReply(ByteView frame, ReplyStatus status, const std::string& error) {
  ForwardFrame request;
  try {
    parseForward(frame, request);
  } catch (const BadFrame&) {
    request = {};
  }
  return errorReply(request.key, status, error, 0);
}

std::shared_ptr<ExpertShard> makeCpuExpertShard(CpuContextPtr cpu, const ExpertShardOptions& o) {
  checkRange("options.numLayers", o.numLayers, 1, kMaxCount);
  checkRange("options.numExperts", o.numExperts, 1, 65536);
  checkRange("options.hidden", o.hidden, 1, kMaxCount);
  checkRange("options.intermediate", o.intermediate, 1, kMaxCount);
  return std::make_shared<CpuExpertShard>(std::move(cpu), o);
}

}  // namespace guildhall
