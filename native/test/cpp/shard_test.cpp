// The expert shard against peers that lie: every frame gets a reply, and only whole, held requests get rows.

#include <thread>

#include "cpp/fixture.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

constexpr int64_t kRowBytes = kHidden * 4;

void putU16(std::vector<uint8_t>& out, int32_t value) {
  out.push_back(static_cast<uint8_t>(value & 0xff));
  out.push_back(static_cast<uint8_t>(value >> 8));
}

/** A request that can be bent in every way. */
struct Request {
  ForwardFrame frame;
  std::vector<uint8_t> counts, experts, weights, rows;

  Request(const std::vector<int32_t>& rowCounts, const std::vector<int32_t>& numbers) {
    for (const int32_t c : rowCounts) putU16(counts, c);
    for (const int32_t e : numbers) putU16(experts, e);
    weights.resize(numbers.size() * 4);
    rows.resize(rowCounts.size() * kRowBytes);
    Random random(4);
    const Floats values = random.normals(static_cast<int64_t>(rowCounts.size()) * kHidden);
    std::memcpy(rows.data(), values.data(), rows.size());
    frame.numRows = static_cast<uint32_t>(rowCounts.size());
    frame.combineMode = CombineMode::kExact;
    frame.key.step = 321;
  }

  std::vector<uint8_t> bytes() const {
    ForwardFrame f = frame;
    const auto view = [](const std::vector<uint8_t>& v) { return ByteView{v.data(), static_cast<int64_t>(v.size())}; };
    f.rowEntries = view(counts);
    f.experts = view(experts);
    f.weights = view(weights);
    f.rows = view(rows);
    std::vector<uint8_t> out(static_cast<size_t>(forwardFrameBytes(f)));
    std::memcpy(writeForward(f, out.data()), rows.data(), rows.size());
    return out;
  }
};

struct Reply {
  OwnedFrame owned;
  ReplyFrame frame;
  std::string error() const {
    return {reinterpret_cast<const char*>(frame.error.data), static_cast<size_t>(frame.error.size)};
  }
};

Reply serve(Model& model, const std::vector<uint8_t>& bytes) {
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), exact.get());
  Reply reply;
  model.call([&] { reply.owned = model.shard->forward({exact.get(), static_cast<int64_t>(bytes.size())}, 17); });
  parseReply({reply.owned.data.get(), reply.owned.size}, reply.frame);
  CHECK(reply.frame.queueUs == 17);
  return reply;
}

void expectInvalid(Model& model, const Request& request, const std::string& part) {
  const Reply reply = serve(model, request.bytes());
  CHECK(reply.frame.status == ReplyStatus::kInvalid);
  CHECK(reply.frame.key.step == 321 && reply.frame.rows.size == 0);
  CHECK_MSG(reply.error().find(part) != std::string::npos, reply.error());
}

void testInvalid(Model& model) {
  const Request good({2, 1}, {0, 5, 8});
  CHECK(serve(model, good.bytes()).frame.status == ReplyStatus::kOk);
  const auto bend = [&](const std::string& part, const std::function<void(Request&)>& change) {
    Request request = good;
    change(request);
    expectInvalid(model, request, part);
  };
  bend("layer 1 of 1", [](auto& r) { r.frame.key.layer = 1; });
  bend("layer 4294967295", [](auto& r) { r.frame.key.layer = 0xffffffffu; });
  bend("combine mode", [](auto& r) { r.frame.combineMode = CombineMode::kUnspecified; });
  bend("combine mode", [](auto& r) { r.frame.combineMode = static_cast<CombineMode>(-7); });
  bend("no rows", [](auto& r) { r.frame.numRows = 0; });
  bend("row_entries", [](auto& r) { r.frame.numRows = 3; });
  bend("row_entries", [](auto& r) { r.frame.numRows = 0xffffffffu; });
  bend("bytes of rows", [](auto& r) { r.rows.pop_back(); });
  bend("bytes of rows", [](auto& r) { r.rows.clear(); });
  bend("experts and weights", [](auto& r) { r.experts.pop_back(); });
  bend("experts and weights", [](auto& r) { r.weights.pop_back(); });
  bend("no entries", [](auto& r) { r.counts = {0, 0, 3, 0}; });
  bend("more entries", [](auto& r) { r.counts = {2, 0, 0xff, 0xff}; });
  bend("fewer entries", [](auto& r) { r.counts = {1, 0, 1, 0}; });
  bend("expert 9 of 9", [](auto& r) { r.experts[4] = 9; });
  bend("not ascending", [](auto& r) { r.experts[2] = 0; });

  const Reply noise = serve(model, {1, 2, 3});
  CHECK(noise.frame.status == ReplyStatus::kInvalid && noise.frame.key.step == 0 && noise.frame.error.size > 0);
  CHECK(serve(model, {}).frame.status == ReplyStatus::kInvalid);
}

void testNotHeld(Model& model) {
  model.shard->unload(0, 5);
  model.shard->unload(0, 2);
  const Reply reply = serve(model, Request({2, 2}, {2, 5, 5, 8}).bytes());
  CHECK(reply.frame.status == ReplyStatus::kNotHeld && reply.frame.rows.size == 0 && reply.frame.numRows == 0);
  CHECK(reply.frame.notHeld.size == 4 && readU16(reply.frame.notHeld, 0) == 2 && readU16(reply.frame.notHeld, 1) == 5);
  CHECK(model.shard->held(0) == std::vector<int32_t>({0, 1, 3, 4, 6, 7, 8}));
}

/** Random damage to a good request never escapes as an exception or a read outside the frame. */
void testRandomDamage(Model& model) {
  Random random(8);
  const std::vector<uint8_t> good = Request({2, 1, 3}, {0, 7, 8, 1, 3, 4}).bytes();
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> bytes = good;
    for (int64_t i = random.integer(1, 4); i > 0; --i) {
      bytes[static_cast<size_t>(random.integer(0, 110))] = static_cast<uint8_t>(random.bits());
    }
    const Reply reply = serve(model, bytes);
    CHECK(reply.frame.status == ReplyStatus::kOk || reply.frame.status == ReplyStatus::kInvalid ||
          reply.frame.status == ReplyStatus::kNotHeld);
  }
}

/** Loading and unloading while requests run. */
void testConcurrentUnload(Model& model) {
  Weights weights(3, Dtype::kF32);
  const ExpertWeights expert{weights.matrix(kIntermediate, kHidden), weights.matrix(kIntermediate, kHidden),
                             weights.matrix(kHidden, kIntermediate)};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop.load()) {
      model.shard->load(0, 5, expert);
      model.shard->unload(0, 5);
    }
  });
  int served = 0;
  for (int round = 0; round < 2000 || (served == 0 && round < 200000); ++round) {
    const Reply reply = serve(model, Request({1}, {5}).bytes());
    CHECK(reply.frame.status == ReplyStatus::kOk || reply.frame.status == ReplyStatus::kNotHeld);
    served += reply.frame.status == ReplyStatus::kOk ? 1 : 0;
  }
  stop.store(true);
  other.join();
  CHECK(served > 0);
}

void testStatusReply() {
  const std::vector<uint8_t> request = Request({1}, {0}).bytes();
  OwnedFrame owned = statusReply({request.data(), static_cast<int64_t>(request.size())}, ReplyStatus::kBusy, "full");
  ReplyFrame frame;
  parseReply({owned.data.get(), owned.size}, frame);
  CHECK(frame.status == ReplyStatus::kBusy && frame.key.step == 321 && frame.error.size == 4);
  owned = statusReply({request.data(), 9}, ReplyStatus::kFailed, "x");
  parseReply({owned.data.get(), owned.size}, frame = {});
  CHECK(frame.status == ReplyStatus::kFailed && frame.key.step == 0);
}

}  // namespace

int main() {
  Model model({2, std::nullopt, Bf16Kernels::kAuto}, WeightFormat::kF32);
  testInvalid(model);
  testRandomDamage(model);
  testNotHeld(model);
  testConcurrentUnload(model);
  testStatusReply();
  return 0;
}
