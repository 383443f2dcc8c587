// The wire form: round trips, any order of fields, unknown fields, and hostile bytes of every kind.

#include "guildhall/frames.h"

#include "ops/check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

using Bytes = std::vector<uint8_t>;

ByteView viewOf(const Bytes& bytes) { return {bytes.data(), static_cast<int64_t>(bytes.size())}; }
ByteView viewOf(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), static_cast<int64_t>(text.size())};
}
std::string textOf(const ByteView& view) {
  return view.size == 0 ? std::string()
                        : std::string(reinterpret_cast<const char*>(view.data), static_cast<size_t>(view.size));
}

const std::string kTrace(55, 'a');
const std::string kCounts = {2, 0, 1, 0};
const std::string kExperts = {1, 0, 5, 0, 0, 1};
const std::string kWeights(12, '\x3f');
const std::string kRows(300, 'r');

ForwardFrame sampleForward() {
  ForwardFrame f;
  f.key = {0x0102030405060708u, 9, 10, 11, 12, 13};
  f.epoch = 14;
  f.numRows = 2;
  f.combineMode = CombineMode::kPartial;
  f.traceparent = viewOf(kTrace);
  f.rowEntries = viewOf(kCounts);
  f.experts = viewOf(kExperts);
  f.weights = viewOf(kWeights);
  f.rows = viewOf(kRows);
  return f;
}

Bytes encodeForward(const ForwardFrame& f) {
  Bytes out(static_cast<size_t>(forwardFrameBytes(f)));
  uint8_t* const rows = writeForward(f, out.data());
  CHECK(rows + f.rows.size == out.data() + out.size());
  std::memcpy(rows, f.rows.data, static_cast<size_t>(f.rows.size));
  return out;
}

void checkEqual(const ForwardFrame& a, const ForwardFrame& b) {
  CHECK(std::memcmp(&a.key, &b.key, sizeof a.key) == 0);
  CHECK(a.epoch == b.epoch && a.numRows == b.numRows && a.combineMode == b.combineMode);
  CHECK(textOf(a.traceparent) == textOf(b.traceparent));
  CHECK(textOf(a.rowEntries) == textOf(b.rowEntries));
  CHECK(textOf(a.experts) == textOf(b.experts));
  CHECK(textOf(a.weights) == textOf(b.weights));
  CHECK(textOf(a.rows) == textOf(b.rows));
}

void testRoundTrip() {
  ForwardFrame f = sampleForward();
  ForwardFrame read;
  const Bytes bytes = encodeForward(f);
  parseForward(viewOf(bytes), read);
  checkEqual(f, read);

  f.traceparent = {};
  ForwardFrame bare;
  const Bytes shorter = encodeForward(f);
  parseForward(viewOf(shorter), bare);
  checkEqual(f, bare);

  ReplyFrame r;
  r.key = f.key;
  r.status = ReplyStatus::kOk;
  r.numRows = 3;
  r.computeUs = 4;
  r.queueUs = 5;
  r.notHeld = viewOf(kExperts);
  r.error = viewOf(kTrace);
  r.rows = viewOf(kRows);
  Bytes out(static_cast<size_t>(replyFrameBytes(r)));
  uint8_t* const rows = writeReply(r, out.data());
  std::memcpy(rows, kRows.data(), kRows.size());
  ReplyFrame reply;
  parseReply(viewOf(out), reply);
  CHECK(reply.status == r.status && reply.numRows == 3 && reply.computeUs == 4 && reply.queueUs == 5);
  CHECK(textOf(reply.notHeld) == kExperts && textOf(reply.error) == kTrace && textOf(reply.rows) == kRows);
}

void putVarint(Bytes& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value | 0x80));
  out.push_back(static_cast<uint8_t>(value));
}

void putBytes(Bytes& out, uint32_t number, const Bytes& contents) {
  putVarint(out, number << 3 | 2);
  putVarint(out, contents.size());
  out.insert(out.end(), contents.begin(), contents.end());
}

Bytes fixed32Field(uint32_t number, uint32_t value) {
  Bytes out;
  putVarint(out, number << 3 | 5);
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
  return out;
}

Bytes bytesField(uint32_t number, const std::string& contents) {
  Bytes out;
  putBytes(out, number, Bytes(contents.begin(), contents.end()));
  return out;
}

Bytes clientFrame(const std::vector<Bytes>& fields) {
  Bytes message;
  for (const Bytes& field : fields) message.insert(message.end(), field.begin(), field.end());
  Bytes out;
  putBytes(out, 2, message);
  return out;
}

/** Fields backwards, unknown ones of every wire type between them, and a repeated one: the last counts. */
void testForeignEncoder() {
  Bytes unknownVarint;
  putVarint(unknownVarint, 200u << 3);
  putVarint(unknownVarint, ~0ull);
  Bytes unknownFixed64;
  putVarint(unknownFixed64, 201u << 3 | 1);
  unknownFixed64.insert(unknownFixed64.end(), 8, 0xee);
  Bytes mode;
  putVarint(mode, 9u << 3);
  putVarint(mode, 1);
  Bytes wrongWire;  // `step` as a varint: not this field
  putVarint(wrongWire, 2u << 3);
  putVarint(wrongWire, 99);
  const Bytes frame =
      clientFrame({bytesField(14, kRows), bytesField(13, kWeights), unknownVarint, bytesField(12, "old"),
                   bytesField(12, kExperts), bytesField(11, kCounts), mode, fixed32Field(8, 2), unknownFixed64,
                   fixed32Field(2, 41), wrongWire, fixed32Field(2, 42), bytesField(300, "x")});
  ForwardFrame f;
  parseForward(viewOf(frame), f);
  CHECK(f.key.step == 42 && f.key.layer == 0 && f.numRows == 2 && f.combineMode == CombineMode::kExact);
  CHECK(textOf(f.experts) == kExperts && textOf(f.rows) == kRows && f.traceparent.size == 0);
}

template <typename Body>
bool isBad(Body body) {
  try {
    body();
    return false;
  } catch (const BadFrame&) {
    return true;
  }
}

bool badForward(const Bytes& bytes) {
  // A copy of the exact size, so that the sanitizer sees every read past the end.
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), exact.get());
  ForwardFrame f;
  return isBad([&] { parseForward({exact.get(), static_cast<int64_t>(bytes.size())}, f); });
}

void testHostile() {
  CHECK(badForward({}));
  Bytes hello;
  putBytes(hello, 1, {});
  CHECK(badForward(hello));
  Bytes helloLast = clientFrame({});
  CHECK(!badForward(helloLast));
  putBytes(helloLast, 1, {});
  CHECK(badForward(helloLast));
  CHECK(badForward({0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}));        // length 2^64 - 1
  CHECK(badForward({0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}));        // past 64 bits
  CHECK(badForward({0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}));  // 11 bytes
  CHECK(badForward({0x13, 0x14}));                                                              // groups
  CHECK(badForward({0x02, 0x00}));                                                              // field 0
  CHECK(!badForward({0x12, 0x80, 0x80, 0x00}));                                                 // padded length

  const Bytes good = encodeForward(sampleForward());
  for (size_t cut = 0; cut < good.size(); ++cut)
    CHECK(badForward(Bytes(good.begin(), good.begin() + static_cast<long>(cut))));
}

/** Whatever the bytes, parsing ends, stays inside them, and gives views inside them. */
void testRandomDamage() {
  Random random(11);
  const Bytes good = encodeForward(sampleForward());
  for (int round = 0; round < 20000; ++round) {
    Bytes bytes = good;
    const int64_t changes = random.integer(1, 6);
    for (int64_t i = 0; i < changes; ++i) {
      bytes[static_cast<size_t>(random.integer(0, std::min<int64_t>(140, static_cast<int64_t>(bytes.size()) - 1)))] =
          static_cast<uint8_t>(random.bits());
    }
    bytes.resize(static_cast<size_t>(random.integer(1, static_cast<int64_t>(bytes.size()))));
    const std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), exact.get());
    const ByteView view{exact.get(), static_cast<int64_t>(bytes.size())};
    ForwardFrame f;
    ReplyFrame r;
    static_cast<void>(isBad([&] { parseForward(view, f); }));
    static_cast<void>(isBad([&] { parseReply(view, r); }));
    for (const ByteView& part :
         {f.rows, f.experts, f.weights, f.rowEntries, f.traceparent, r.rows, r.error, r.notHeld}) {
      CHECK(part.size == 0 || (part.data >= exact.get() && part.data + part.size <= exact.get() + bytes.size()));
    }
  }
}

}  // namespace

int main() {
  testRoundTrip();
  testForeignEncoder();
  testHostile();
  testRandomDamage();
  return 0;
}
