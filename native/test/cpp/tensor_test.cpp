// Dtypes, block scales, row gathering, packing into panels, and the checks of hostile sources.

#include "guildhall/tensor.h"

#include "guildhall/bf16.h"
#include "guildhall/error.h"
#include "guildhall/packed_linear.h"
#include "ops/check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

template <typename T>
TensorSource sourceOf(Dtype dtype, const std::vector<T>& values, int64_t rows, int64_t cols) {
  TensorSource source;
  source.dtype = dtype;
  source.sourceRows = rows;
  source.cols = cols;
  source.data = reinterpret_cast<const uint8_t*>(values.data());
  source.dataBytes = static_cast<int64_t>(values.size() * sizeof(T));
  return source;
}

template <typename Body>
std::string messageOf(Body body) {
  try {
    body();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  failAt(__FILE__, __LINE__, "nothing was thrown");
}

bool startsWith(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

void testHalf() {
  CHECK(halfToFloat(0x0000) == 0.0f);
  CHECK(std::signbit(halfToFloat(0x8000)));
  CHECK(halfToFloat(0x3c00) == 1.0f);
  CHECK(halfToFloat(0xc000) == -2.0f);
  CHECK(halfToFloat(0x0001) == 0x1p-24f);
  CHECK(halfToFloat(0x03ff) == 1023 * 0x1p-24f);
  CHECK(halfToFloat(0x0400) == 0x1p-14f);
  CHECK(halfToFloat(0x7bff) == 65504.0f);
  CHECK(std::isinf(halfToFloat(0x7c00)));
  CHECK(std::isnan(halfToFloat(0x7e00)));
}

void testFloat8() {
  CHECK(f8e4m3ToFloat(0x00) == 0.0f);
  CHECK(f8e4m3ToFloat(0x01) == 0x1p-9f);
  CHECK(f8e4m3ToFloat(0x07) == 7 * 0x1p-9f);
  CHECK(f8e4m3ToFloat(0x08) == 0x1p-6f);
  CHECK(f8e4m3ToFloat(0x38) == 1.0f);
  CHECK(f8e4m3ToFloat(0xb9) == -1.125f);
  CHECK(f8e4m3ToFloat(0x7e) == 448.0f);
  CHECK(std::isnan(f8e4m3ToFloat(0x7f)));
  CHECK(std::isnan(f8e4m3ToFloat(0xff)));
}

void testBf16() {
  CHECK(floatToBf16(1.0f) == 0x3f80);
  CHECK(roundToBf16(1.0f + 0x1p-8f) == 1.0f);                // tie, to even
  CHECK(roundToBf16(1.0f + 3 * 0x1p-8f) == 1.0f + 0x1p-6f);  // tie, to even
  CHECK(roundToBf16(1.0f + 0x1.8p-8f) == 1.0f + 0x1p-7f);
  CHECK(std::isinf(roundToBf16(std::numeric_limits<float>::max())));
  CHECK(std::isnan(roundToBf16(std::numeric_limits<float>::quiet_NaN())));
}

/** Scales belong to source rows, also when rows are gathered; the last block may be short. */
void testScaledRows() {
  const int64_t rows = 130;
  const int64_t cols = 200;
  Random random(1);
  std::vector<uint8_t> bytes(static_cast<size_t>(rows * cols));
  for (auto& b : bytes) b = static_cast<uint8_t>(random.integer(0, 0x7e));
  for (const Dtype scaleType : {Dtype::kF32, Dtype::kBf16}) {
    const Floats factors = {0.5f, 2.0f, 0.25f, 8.0f};
    std::vector<Bf16> narrow;
    for (const float f : factors) narrow.push_back(floatToBf16(f));
    TensorSource source = sourceOf(Dtype::kF8E4m3, bytes, rows, cols);
    const bool wide = scaleType == Dtype::kF32;
    source.scale = TensorSource::Scale{
        scaleType,
        wide ? reinterpret_cast<const uint8_t*>(factors.data()) : reinterpret_cast<const uint8_t*>(narrow.data()),
        wide ? 16 : 8, 2, 2};
    const std::vector<int32_t> map = {129, 0, 128, 127};
    source.rowMap = map.data();
    source.rowMapLength = 4;
    source.check("w");
    CHECK(source.rows() == 4);
    Floats row(static_cast<size_t>(cols));
    for (int64_t r = 0; r < 4; ++r) {
      source.readRow(r, row.data());
      const int64_t from = map[static_cast<size_t>(r)];
      for (int64_t c = 0; c < cols; ++c) {
        const float scale = factors[static_cast<size_t>(from / 128 * 2 + c / 128)];
        CHECK(row[static_cast<size_t>(c)] == f8e4m3ToFloat(bytes[static_cast<size_t>(from * cols + c)]) * scale);
      }
    }
  }
}

/** A bf16 source at an odd address packs as its f32 copy does. */
void testUnalignedPacking() {
  Random random(2);
  for (const int64_t k : {1, 8, 513}) {
    const int64_t n = 19;
    std::vector<Bf16> narrow;
    for (int64_t i = 0; i < n * k; ++i) narrow.push_back(floatToBf16(random.normal()));
    Floats wide;
    for (const Bf16 bits : narrow) wide.push_back(bf16ToFloat(bits));
    std::vector<uint8_t> shifted(narrow.size() * 2 + 1);
    std::memcpy(shifted.data() + 1, narrow.data(), narrow.size() * 2);
    TensorSource odd = sourceOf(Dtype::kBf16, narrow, n, k);
    odd.data = shifted.data() + 1;
    for (const KernelFamily family : {KernelFamily::kF32Fma, KernelFamily::kBf16Fma}) {
      const PackedLinear a = PackedLinear::pack({odd}, family, nullptr);
      const PackedLinear b = PackedLinear::pack({sourceOf(Dtype::kF32, wide, n, k)}, family, nullptr);
      CHECK(a.bytes() == b.bytes() && a.bytes() == PackedLinear::packedBytes(n, k, family));
      CHECK(std::memcmp(a.panel(0), b.panel(0), static_cast<size_t>(a.bytes())) == 0);
    }
  }
}

void testLedger() {
  const auto ledger = std::make_shared<MemoryLedger>();
  const Floats values(64 * 8, 1.0f);
  {
    PackedLinear packed = PackedLinear::pack({sourceOf(Dtype::kF32, values, 64, 8)}, KernelFamily::kF32Fma, ledger);
    PackedLinear moved = std::move(packed);
    CHECK(ledger->bytes(MemoryKind::kWeights) == 64 * 8 * 4);
  }
  CHECK(ledger->bytes(MemoryKind::kWeights) == 0);
}

void testChecks() {
  const Floats values(12);
  const TensorSource good = sourceOf(Dtype::kF32, values, 3, 4);
  good.checkShape("w", 3, 4);
  CHECK(startsWith(messageOf([&] { good.checkShape("w.up", 4, 3); }), "w.up.shape: [3, 4], expected [4, 3]"));

  TensorSource shortData = good;
  shortData.dataBytes = 47;
  CHECK(startsWith(messageOf([&] { shortData.check("w"); }), "w.data: 47 bytes"));
  TensorSource empty = good;
  empty.sourceRows = 0;
  CHECK(startsWith(messageOf([&] { empty.check("w"); }), "w.shape"));
  TensorSource huge = good;
  huge.sourceRows = int64_t{1} << 31;
  huge.cols = int64_t{1} << 31;
  CHECK(startsWith(messageOf([&] { huge.check("w"); }), "w.shape: too large"));

  const std::vector<int32_t> map = {0, 3};
  TensorSource gathered = good;
  gathered.rowMap = map.data();
  gathered.rowMapLength = 2;
  CHECK(startsWith(messageOf([&] { gathered.check("w"); }), "w.rows[1]: 3"));

  TensorSource scaled = good;
  scaled.scale = TensorSource::Scale{Dtype::kF32, good.data, 8, 2, 1};
  CHECK(startsWith(messageOf([&] { scaled.check("w"); }), "w.scale.shape"));
  scaled.scale = TensorSource::Scale{Dtype::kF32, good.data, 3, 1, 1};
  CHECK(startsWith(messageOf([&] { scaled.check("w"); }), "w.scale.data"));
}

}  // namespace

int main() {
  testHalf();
  testFloat8();
  testBf16();
  testScaledRows();
  testUnalignedPacking();
  testLedger();
  testChecks();
  return 0;
}
