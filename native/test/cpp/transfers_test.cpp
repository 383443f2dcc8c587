// Checksums, and copies out of and into pools.

#include <algorithm>
#include <cstring>
#include <numeric>

#include "guildhall/crc32c.h"
#include "guildhall/transfers.h"
#include "ops/check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

using Bytes = std::vector<uint8_t>;

Bytes randomBytes(int64_t n, uint64_t seed) {
  Random random(seed);
  Bytes out(static_cast<size_t>(n));
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random.bits() >> 32);
  return out;
}

/** By the definition, bit by bit. */
uint32_t slowCrc(const uint8_t* data, int64_t size) {
  uint32_t crc = 0xffffffffu;
  for (int64_t i = 0; i < size; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

void checkCrc(const Bytes& bytes, uint32_t expected) {
  const auto size = static_cast<int64_t>(bytes.size());
  CHECK(crc32c(bytes.data(), size) == expected);
  CHECK(crc32cPortable(bytes.data(), size) == expected);
}

/** RFC 3720, B.4, and the check value of the catalogues. */
void testKnownSums() {
  checkCrc(Bytes(32, 0x00), 0x8A9136AAu);
  checkCrc(Bytes(32, 0xff), 0x62A8AB43u);
  Bytes counted(32);
  std::iota(counted.begin(), counted.end(), uint8_t{0});
  checkCrc(counted, 0x46DD794Eu);
  std::reverse(counted.begin(), counted.end());
  checkCrc(counted, 0x113FDB5Cu);
  const char* const digits = "123456789";
  checkCrc(Bytes(digits, digits + 9), 0xE3069283u);
  checkCrc({}, 0u);
}

void testLengths() {
  const Bytes bytes = randomBytes(20000, 3);
  std::vector<int64_t> lengths = {1023, 1024, 1025, 3071, 3072, 3073, 3079, 3080, 6143, 6144, 6145, 9216, 12345, 19980};
  for (int64_t n = 0; n < 70; ++n) lengths.push_back(n);
  for (const int64_t n : lengths) {
    for (const int64_t from : {0, 1, 3, 7, 8, 13}) {
      const uint32_t expected = slowCrc(bytes.data() + from, n);
      CHECK(crc32c(bytes.data() + from, n) == expected);
      CHECK(crc32cPortable(bytes.data() + from, n) == expected);
      const int64_t cut = n / 3;
      CHECK(crc32c(bytes.data() + from + cut, n - cut, crc32c(bytes.data() + from, cut)) == expected);
      CHECK(crc32cPortable(bytes.data() + from + cut, n - cut, crc32cPortable(bytes.data() + from, cut)) == expected);
    }
  }
}

std::shared_ptr<KvPool> makePool(int64_t pages, int64_t layers) {
  return std::make_shared<KvPool>(KvPoolOptions{pages, layers, 2, 24, KvFormat::kF32, KvKernel::kFma}, nullptr);
}

Bytes pageOf(const KvPool& pool, int64_t page) {
  Bytes out(static_cast<size_t>(pool.pageBytes()));
  pool.readPage(page, out.data());
  return out;
}

/** Pages go out in any order and group and come back elsewhere; no other page is touched. */
void testPages() {
  const auto from = makePool(9, 3);
  const auto to = makePool(12, 3);
  const int64_t size = from->pageBytes();
  for (int64_t p = 0; p < 9; ++p) from->writePage(p, randomBytes(size, static_cast<uint64_t>(p)).data());
  const std::vector<int32_t> sources = {8, 0, 3, 4, 1, 7}, targets = {2, 11, 5, 0, 8, 9};
  for (const int64_t group : {1, 2, 3, 6}) {
    const std::vector<PoolCopy> copies = exportPages(*from, sources, group);
    CHECK(static_cast<int64_t>(copies.size()) == 6 / group);
    std::vector<ByteView> parts;
    for (const PoolCopy& copy : copies) {
      CHECK(copy.bytes.size == group * size && copy.checksum == slowCrc(copy.bytes.data.get(), copy.bytes.size));
      parts.push_back({copy.bytes.data.get(), copy.bytes.size});
    }
    const Bytes blank(static_cast<size_t>(size), 0x5a);
    for (int64_t p = 0; p < 12; ++p) to->writePage(p, blank.data());
    PageImport import(to, targets, parts);
    while (import.step()) {
    }
    for (int32_t p = 0; p < 12; ++p) {
      const auto at = std::find(targets.begin(), targets.end(), p);
      const auto index = static_cast<size_t>(at - targets.begin());
      CHECK(pageOf(*to, p) == (at == targets.end() ? blank : pageOf(*from, sources[index])));
    }
  }
  CHECK(exportPages(*from, {}, 1).empty());
  CHECK(!PageImport(to, {}, {}).step());
}

/** A step copies no more than it may, but always a page. */
void testSteps() {
  const auto many = makePool(64, 8);
  const int64_t most = kImportStepBytes / many->pageBytes();
  CHECK(most > 1 && most < 40);
  std::vector<int32_t> pages(40);
  std::iota(pages.begin(), pages.end(), 0);
  const Bytes part = randomBytes(20 * many->pageBytes(), 5);
  const ByteView view{part.data(), static_cast<int64_t>(part.size())};
  PageImport import(many, pages, {view, view});
  int64_t steps = 1;
  while (import.step()) ++steps;
  CHECK(steps == (40 + most - 1) / most);
  CHECK(pageOf(*many, 39) == Bytes(part.end() - many->pageBytes(), part.end()));

  const auto large = makePool(3, 100);
  CHECK(large->pageBytes() < kImportStepBytes && 2 * large->pageBytes() > kImportStepBytes);
  const Bytes bytes = randomBytes(2 * large->pageBytes(), 6);
  PageImport two(large, {2, 0}, {{bytes.data(), static_cast<int64_t>(bytes.size())}});
  CHECK(two.step() && !two.step());
  CHECK(pageOf(*large, 0) == Bytes(bytes.begin() + large->pageBytes(), bytes.end()));
}

void testStates() {
  const StatePoolOptions options{3, 30, 8, 96, 72, 900, 4};
  StatePool from(options, nullptr);
  const auto to = std::make_shared<StatePool>(options, nullptr);
  const Bytes state = randomBytes(from.slotBytes(), 9);
  from.writeSlot(1, 0, state.data(), from.slotBytes());
  const PoolCopy copy = exportState(from, 1);
  CHECK(copy.bytes.size == from.slotBytes() && std::memcmp(copy.bytes.data.get(), state.data(), state.size()) == 0);
  CHECK(copy.checksum == slowCrc(state.data(), copy.bytes.size));
  StateImport import(to, 2, {copy.bytes.data.get(), copy.bytes.size});
  int64_t steps = 1;
  while (import.step()) ++steps;
  CHECK(steps > 1 && steps == (copy.bytes.size + kImportStepBytes - 1) / kImportStepBytes);
  CHECK(std::memcmp(to->slot(2), state.data(), state.size()) == 0);
  const Bytes zeros(state.size());
  for (const int64_t other : {0, 1}) CHECK(std::memcmp(to->slot(other), zeros.data(), zeros.size()) == 0);
}

}  // namespace

int main() {
  runTest("known sums", testKnownSums);
  runTest("sums of any length and alignment", testLengths);
  runTest("pages", testPages);
  runTest("steps of an import", testSteps);
  runTest("states", testStates);
  return 0;
}
