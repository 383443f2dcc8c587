#include "guildhall/frames.h"

#include <cstring>

namespace guildhall {

namespace {

enum Wire : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

constexpr uint32_t kForwardInClientFrame = 2;
constexpr uint32_t kReplyInServerFrame = 2;

template <typename T>
T loadAs(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

struct Field {
  uint32_t number;
  Wire wire;
};

class Reader {
 public:
  explicit Reader(ByteView view) : at_(view.data), end_(view.data + view.size) {}

  bool atEnd() const { return at_ == end_; }

  Field field() {
    const uint64_t tag = varint();
    const uint64_t number = tag >> 3;
    const auto wire = static_cast<uint32_t>(tag & 7);
    if (number == 0 || number >= (1u << 29)) throw BadFrame("field number out of range");
    if (wire != kVarint && wire != kFixed64 && wire != kBytes && wire != kFixed32) throw BadFrame("unknown wire type");
    return {static_cast<uint32_t>(number), static_cast<Wire>(wire)};
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at_ == end_) throw BadFrame("truncated varint");
      const uint8_t byte = *at_++;
      if (shift == 63 && byte > 1) throw BadFrame("varint past 64 bits");
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    throw BadFrame("varint longer than 10 bytes");
  }

  template <typename T>
  T fixed() {
    return loadAs<T>(take(sizeof(T)).data);
  }

  ByteView bytes() {
    const uint64_t size = varint();
    if (size > static_cast<uint64_t>(end_ - at_)) throw BadFrame("a field is longer than its message");
    return take(static_cast<int64_t>(size));
  }

  void skip(Wire wire) {
    if (wire == kVarint) varint();
    if (wire == kFixed64) take(8);
    if (wire == kFixed32) take(4);
    if (wire == kBytes) bytes();
  }

 private:
  ByteView take(int64_t size) {
    if (size > end_ - at_) throw BadFrame("truncated field");
    const ByteView view{at_, size};
    at_ += size;
    return view;
  }

  const uint8_t* at_;
  const uint8_t* end_;
};

/** The message in field `number` of a oneof frame; the last field of the oneof decides. */
ByteView unwrap(ByteView frame, uint32_t number, const char* what) {
  Reader reader(frame);
  ByteView message;
  bool found = false;
  while (!reader.atEnd()) {
    const Field field = reader.field();
    if (field.number >= 1 && field.number <= 3 && field.wire == kBytes) {
      const ByteView bytes = reader.bytes();
      found = field.number == number;
      if (found) message = bytes;
    } else {
      reader.skip(field.wire);
    }
  }
  if (!found) throw BadFrame(std::string("not a ") + what + " frame");
  return message;
}

bool readKeyField(Reader& reader, Field field, FrameKey& key) {
  if (field.number == 1 && field.wire == kFixed64) {
    key.routerIncarnation = reader.fixed<uint64_t>();
    return true;
  }
  uint32_t* const targets[] = {&key.step, &key.layer, &key.microBatch, &key.attempt, &key.part};
  if (field.number < 2 || field.number > 6 || field.wire != kFixed32) return false;
  *targets[field.number - 2] = reader.fixed<uint32_t>();
  return true;
}

bool readFixed32(Reader& reader, Field field, uint32_t number, uint32_t& target) {
  if (field.number != number || field.wire != kFixed32) return false;
  target = reader.fixed<uint32_t>();
  return true;
}

bool readBytes(Reader& reader, Field field, uint32_t number, ByteView& target) {
  if (field.number != number || field.wire != kBytes) return false;
  target = reader.bytes();
  return true;
}

template <typename E>
bool readEnum(Reader& reader, Field field, uint32_t number, E& target) {
  if (field.number != number || field.wire != kVarint) return false;
  target = static_cast<E>(static_cast<int32_t>(reader.varint()));
  return true;
}

int64_t varintBytes(uint64_t value) {
  int64_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

/** Tag (field numbers up to 15 take one byte), length and contents. */
int64_t bytesFieldSize(int64_t size) { return 1 + varintBytes(static_cast<uint64_t>(size)) + size; }

constexpr int64_t kFixed32Field = 5;
constexpr int64_t kFixed64Field = 9;

class Writer {
 public:
  explicit Writer(uint8_t* out) : at_(out) {}

  void fixed32(uint32_t number, uint32_t value) {
    tag(number, kFixed32);
    put(value);
  }
  void fixed64(uint32_t number, uint64_t value) {
    tag(number, kFixed64);
    put(value);
  }
  void enumeration(uint32_t number, int32_t value) {
    tag(number, kVarint);
    varint(static_cast<uint64_t>(static_cast<int64_t>(value)));
  }
  /** Tag and length; returns where the contents go. */
  uint8_t* header(uint32_t number, int64_t size) {
    tag(number, kBytes);
    varint(static_cast<uint64_t>(size));
    return at_;
  }
  void bytes(uint32_t number, ByteView view) {
    header(number, view.size);
    if (view.size > 0) std::memcpy(at_, view.data, static_cast<size_t>(view.size));
    at_ += view.size;
  }
  void key(const FrameKey& key) {
    fixed64(1, key.routerIncarnation);
    fixed32(2, key.step);
    fixed32(3, key.layer);
    fixed32(4, key.microBatch);
    fixed32(5, key.attempt);
    fixed32(6, key.part);
  }

 private:
  void tag(uint32_t number, Wire wire) { *at_++ = static_cast<uint8_t>(number << 3 | wire); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) *at_++ = static_cast<uint8_t>(value | 0x80);
    *at_++ = static_cast<uint8_t>(value);
  }
  template <typename T>
  void put(T value) {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }

  uint8_t* at_;
};

constexpr int64_t kKeyBytes = kFixed64Field + 5 * kFixed32Field;

int64_t enumFieldSize(int32_t value) { return 1 + varintBytes(static_cast<uint64_t>(static_cast<int64_t>(value))); }

int64_t forwardBytes(const ForwardFrame& f) {
  return kKeyBytes + 2 * kFixed32Field + enumFieldSize(static_cast<int32_t>(f.combineMode)) +
         (f.traceparent.size > 0 ? bytesFieldSize(f.traceparent.size) : 0) + bytesFieldSize(f.rowEntries.size) +
         bytesFieldSize(f.experts.size) + bytesFieldSize(f.weights.size) + bytesFieldSize(f.rows.size);
}

int64_t replyBytes(const ReplyFrame& r) {
  return kKeyBytes + enumFieldSize(static_cast<int32_t>(r.status)) + 3 * kFixed32Field +
         (r.notHeld.size > 0 ? bytesFieldSize(r.notHeld.size) : 0) +
         (r.error.size > 0 ? bytesFieldSize(r.error.size) : 0) + bytesFieldSize(r.rows.size);
}

}  // namespace

float readF32(const ByteView& view, int64_t index) { return loadAs<float>(view.data + 4 * index); }

void parseForward(ByteView frame, ForwardFrame& out) {
  Reader reader(unwrap(frame, kForwardInClientFrame, "Forward"));
  while (!reader.atEnd()) {
    const Field field = reader.field();
    const bool known = readKeyField(reader, field, out.key) || readFixed32(reader, field, 7, out.epoch) ||
                       readFixed32(reader, field, 8, out.numRows) || readEnum(reader, field, 9, out.combineMode) ||
                       readBytes(reader, field, 10, out.traceparent) || readBytes(reader, field, 11, out.rowEntries) ||
                       readBytes(reader, field, 12, out.experts) || readBytes(reader, field, 13, out.weights) ||
                       readBytes(reader, field, 14, out.rows);
    if (!known) reader.skip(field.wire);
  }
}

void parseReply(ByteView frame, ReplyFrame& out) {
  Reader reader(unwrap(frame, kReplyInServerFrame, "ForwardReply"));
  while (!reader.atEnd()) {
    const Field field = reader.field();
    const bool known = readKeyField(reader, field, out.key) || readEnum(reader, field, 7, out.status) ||
                       readFixed32(reader, field, 8, out.numRows) || readFixed32(reader, field, 9, out.computeUs) ||
                       readFixed32(reader, field, 10, out.queueUs) || readBytes(reader, field, 11, out.notHeld) ||
                       readBytes(reader, field, 12, out.error) || readBytes(reader, field, 14, out.rows);
    if (!known) reader.skip(field.wire);
  }
}

int64_t forwardFrameBytes(const ForwardFrame& forward) { return bytesFieldSize(forwardBytes(forward)); }

uint8_t* writeForward(const ForwardFrame& f, uint8_t* out) {
  Writer writer(out);
  writer.header(kForwardInClientFrame, forwardBytes(f));
  writer.key(f.key);
  writer.fixed32(7, f.epoch);
  writer.fixed32(8, f.numRows);
  writer.enumeration(9, static_cast<int32_t>(f.combineMode));
  if (f.traceparent.size > 0) writer.bytes(10, f.traceparent);
  writer.bytes(11, f.rowEntries);
  writer.bytes(12, f.experts);
  writer.bytes(13, f.weights);
  return writer.header(14, f.rows.size);
}

int64_t replyFrameBytes(const ReplyFrame& reply) { return bytesFieldSize(replyBytes(reply)); }

uint8_t* writeReply(const ReplyFrame& r, uint8_t* out) {
  Writer writer(out);
  writer.header(kReplyInServerFrame, replyBytes(r));
  writer.key(r.key);
  writer.enumeration(7, static_cast<int32_t>(r.status));
  writer.fixed32(8, r.numRows);
  writer.fixed32(9, r.computeUs);
  writer.fixed32(10, r.queueUs);
  if (r.notHeld.size > 0) writer.bytes(11, r.notHeld);
  if (r.error.size > 0) writer.bytes(12, r.error);
  return writer.header(14, r.rows.size);
}

}  // namespace guildhall
