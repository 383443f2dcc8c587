// The experts of one process: serves forward messages, and steps of the same process without any.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <thread>

#include "blocks.h"
#include "expert_groups.h"
#include "expert_local.h"
#include "expert_request.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

class CpuExpertShard final : public ExpertShard {
 public:
  CpuExpertShard(CpuContextPtr cpu, const ExpertShardOptions& options)
      : cpu_(std::move(cpu)), options_(options), family_(cpu_->family(options.format)), table_(options) {}

  const ExpertShardOptions& options() const override { return options_; }

  int64_t expertBytes() const override {
    return PackedLinear::packedBytes(2 * options_.intermediate, options_.hidden, family_) +
           PackedLinear::packedBytes(options_.hidden, options_.intermediate, family_);
  }

  void checkLoad(int64_t layer, int64_t expert, const ExpertWeights& w, const std::string& path) const override {
    checkAddress(layer, expert);
    w.gate.checkShape(path + "gate", options_.intermediate, options_.hidden);
    w.up.checkShape(path + "up", options_.intermediate, options_.hidden);
    w.down.checkShape(path + "down", options_.hidden, options_.intermediate);
  }

  void load(int64_t layer, int64_t expert, const ExpertWeights& w) override {
    auto packed = std::make_shared<PackedFfn>();
    packed->gateUp = PackedLinear::pack({w.gate, w.up}, family_, cpu_->ledger);
    packed->down = PackedLinear::pack({w.down}, family_, cpu_->ledger);
    table_.exchange(layer, expert, std::move(packed));
  }

  void loadAll(int64_t layer, const std::vector<ExpertLoad>& experts) override {
    std::atomic<size_t> next{0};
    std::exception_ptr error;
    std::mutex errorMutex;
    const auto work = [&] {
      try {
        for (size_t i = next.fetch_add(1); i < experts.size(); i = next.fetch_add(1)) {
          load(layer, experts[i].expert, experts[i].weights);
        }
      } catch (...) {
        next.store(experts.size());
        const std::lock_guard<std::mutex> lock(errorMutex);
        error = std::current_exception();
      }
    };
    // Threads of its own: the pool's belong to forwards. They take over the caller's low priority.
    std::vector<std::thread> helpers;
    const size_t wanted = std::min(experts.size(), static_cast<size_t>(cpu_->info.threads));
    for (size_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
    work();
    for (std::thread& helper : helpers) helper.join();
    if (error) std::rethrow_exception(error);
  }

  bool unload(int64_t layer, int64_t expert) override {
    checkAddress(layer, expert);
    return table_.exchange(layer, expert, nullptr) != nullptr;
  }

  bool has(int64_t layer, int64_t expert) const override {
    checkAddress(layer, expert);
    return table_.get(layer, expert) != nullptr;
  }

  std::vector<int32_t> held(int64_t layer) const override {
    checkRange("layer", layer, 0, options_.numLayers - 1);
    return table_.held(layer);
  }

  OwnedFrame forward(ByteView bytes, uint32_t queueUs) override {
    const auto start = std::chrono::steady_clock::now();
    ExpertRequest request;
    try {
      parseForward(bytes, request.frame);
    } catch (const BadFrame& error) {
      return errorReply({}, ReplyStatus::kInvalid, error.what(), queueUs);
    }
    const FrameKey key = request.frame.key;
    if (const auto problem = readEntries(options_, request)) {
      return errorReply(key, ReplyStatus::kInvalid, *problem, queueUs);
    }
    ExpertGroups entries = ExpertGroups::make(
        cpu_->arena, table_, options_, key.layer, request.experts.data(), static_cast<int64_t>(request.experts.size()),
        [&](int64_t entry) { return request.rows[static_cast<size_t>(entry)]; });
    if (!entries.notHeld.empty()) return notHeldReply(key, entries.notHeld, queueUs);
    const float* const rows = compute(request, entries);
    return okReply(request, rows, entries, queueUs, start);
  }

  void checkLocal(int64_t layer, const StepBuffers& step, const SharedExpert* shared) const override {
    checkRange("layer", layer, 0, options_.numLayers - 1);
    checkStep(step, options_.hidden);
    const StepBuffersOptions& o = step.options();
    if (o.numExperts != options_.numExperts) failRange("step", "made for another number of experts");
    if (o.rowFormat != options_.rowFormat) failRange("step", "made for another row format");
    if (shared == nullptr) return;
    const auto* const block = dynamic_cast<const CpuSharedExpert*>(shared);
    if (block == nullptr || block->spec().hidden != options_.hidden) failRange("shared", "belongs to another model");
  }

  void forwardLocal(int64_t layer, StepBuffers& step, SharedExpert* shared) override {
    runLocalExperts(*cpu_, options_, table_, layer, step, static_cast<CpuSharedExpert*>(shared));
  }

 private:
  void checkAddress(int64_t layer, int64_t expert) const {
    checkRange("layer", layer, 0, options_.numLayers - 1);
    checkRange("expert", expert, 0, options_.numExperts - 1);
  }

  /** Expert outputs [entries][hidden] in f32, in order of places. */
  const float* compute(const ExpertRequest& request, ExpertGroups& entries) {
    const int64_t hidden = options_.hidden;
    const int64_t rowBytes = hidden * rowFormatBytes(options_.rowFormat);
    const int64_t numRows = request.frame.numRows;
    float* const wide = cpu_->arena.take<float>(numRows * hidden);
    cpu_->pool.run(
        numRows,
        [&](int64_t begin, int64_t end, int) {
          for (int64_t r = begin; r < end; ++r) {
            cpu_->rows.widen(request.frame.rows.data + r * rowBytes, options_.rowFormat, wide + r * hidden, hidden);
          }
        },
        16);
    float* const out = cpu_->arena.take<float>(entries.numEntries * hidden);
    entries.bind(prepareInput(cpu_->matmul, family_, wide, hidden, numRows, hidden, cpu_->arena, cpu_->pool), out, hidden);
    runFfn(*cpu_, entries.groups, {});
    return out;
  }

  OwnedFrame okReply(const ExpertRequest& request, const float* outputs, const ExpertGroups& entries, uint32_t queueUs,
                     std::chrono::steady_clock::time_point start) {
    const bool exact = request.frame.combineMode == CombineMode::kExact;
    const int64_t rowBytes = options_.hidden * rowFormatBytes(options_.rowFormat);
    const int64_t numRows = exact ? entries.numEntries : request.frame.numRows;
    ReplyFrame reply = replyTo(request.frame.key, ReplyStatus::kOk, queueUs);
    reply.numRows = static_cast<uint32_t>(numRows);
    reply.rows.size = numRows * rowBytes;
    OwnedFrame frame;
    frame.size = replyFrameBytes(reply);
    frame.data.reset(new uint8_t[static_cast<size_t>(frame.size)]);
    uint8_t* const rows = frame.data.get() + frame.size - reply.rows.size;
    if (exact) {
      writeExact(outputs, entries, rows, rowBytes);
    } else {
      writePartial(request, outputs, entries, rows, rowBytes);
    }
    const auto elapsed = std::chrono::steady_clock::now() - start;
    reply.computeUs = static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
    writeReply(reply, frame.data.get());
    return frame;
  }

  void writeExact(const float* outputs, const ExpertGroups& entries, uint8_t* rows, int64_t rowBytes) {
    cpu_->pool.run(
        entries.numEntries,
        [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) {
            cpu_->rows.round(outputs + i * options_.hidden, rows + entries.order[i] * rowBytes, options_.rowFormat,
                             options_.hidden);
          }
        },
        16);
  }

  /** One weighted sum per row, ascending by expert, rounded once. */
  void writePartial(const ExpertRequest& request, const float* outputs, const ExpertGroups& entries, uint8_t* rows,
                    int64_t rowBytes) {
    const int64_t hidden = options_.hidden;
    auto* const place = cpu_->arena.take<int32_t>(entries.numEntries);
    for (int64_t i = 0; i < entries.numEntries; ++i) place[entries.order[i]] = static_cast<int32_t>(i);
    float* const sum = cpu_->arena.take<float>(hidden);
    int64_t entry = 0;
    for (int64_t r = 0; r < request.frame.numRows; ++r) {
      std::fill_n(sum, hidden, 0.0f);
      for (; entry < entries.numEntries && request.rows[static_cast<size_t>(entry)] == r; ++entry) {
        const float weight = readF32(request.frame.weights, entry);
        const auto* const row = reinterpret_cast<const uint8_t*>(outputs + place[entry] * hidden);
        cpu_->rows.addWeighted(sum, row, RowFormat::kF32, weight, hidden);
      }
      cpu_->rows.round(sum, rows + r * rowBytes, options_.rowFormat, hidden);
    }
  }

  CpuContextPtr cpu_;
  ExpertShardOptions options_;
  KernelFamily family_;
  ExpertTable table_;
};

}  // namespace

std::shared_ptr<ExpertShard> makeCpuExpertShard(CpuContextPtr cpu, const ExpertShardOptions& o) {
  checkRange("options.numLayers", o.numLayers, 1, kMaxCount);
  checkRange("options.numExperts", o.numExperts, 1, 65536);
  checkRange("options.hidden", o.hidden, 1, kMaxCount);
  checkRange("options.intermediate", o.intermediate, 1, kMaxCount);
  return std::make_shared<CpuExpertShard>(std::move(cpu), o);
}

}  // namespace guildhall
