#include "guildhall/crc32c.h"

#include <array>
#include <cstring>

namespace guildhall {

namespace {

/** The polynomial with its bits reversed. */
constexpr uint32_t kPolynomial = 0x82f63b78u;
using Table = std::array<uint32_t, 256>;

/** Tables k: what a byte with k more behind it does to the register. */
constexpr std::array<Table, 8> makeTables() {
  std::array<Table, 8> tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? kPolynomial : 0u);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t crc = tables[k - 1][byte];
      tables[k][byte] = (crc >> 8) ^ tables[0][crc & 0xffu];
    }
  }
  return tables;
}

constexpr std::array<Table, 8> kTables = makeTables();

uint32_t addByte(uint32_t crc, uint8_t byte) { return (crc >> 8) ^ kTables[0][(crc ^ byte) & 0xffu]; }

/** Eight bytes at a time; the register, not yet inverted, goes in and comes out. */
uint32_t tableRegister(uint32_t crc, const uint8_t* data, int64_t size) {
  for (; size >= 8; data += 8, size -= 8) {
    uint32_t next = 0;
    for (size_t i = 0; i < 8; ++i) {
      const uint32_t mixed = i < 4 ? data[i] ^ ((crc >> (8 * i)) & 0xffu) : data[i];
      next ^= kTables[7 - i][mixed];
    }
    crc = next;
  }
  for (; size > 0; ++data, --size) crc = addByte(crc, *data);
  return crc;
}

#if defined(GUILDHALL_X86)

/**
 * The instruction takes three cycles but one can begin in each: three stretches of a block run side by side, and their
 * registers are joined by what a stretch of zero bytes does to one, a linear map.
 */
constexpr int64_t kStretch = 1024;

class ZeroStretch {
 public:
  ZeroStretch() {
    for (size_t place = 0; place < 4; ++place) {
      for (size_t bit = 0; bit < 8; ++bit) {
        uint32_t crc = uint32_t{1} << (8 * place + bit);
        for (int64_t i = 0; i < kStretch; ++i) crc = addByte(crc, 0);
        for (size_t byte = 0; byte < 256; ++byte) {
          if ((byte >> bit & 1u) != 0) tables_[place][byte] ^= crc;
        }
      }
    }
  }
  uint32_t pass(uint32_t crc) const {
    return tables_[0][crc & 0xffu] ^ tables_[1][crc >> 8 & 0xffu] ^ tables_[2][crc >> 16 & 0xffu] ^
           tables_[3][crc >> 24];
  }

 private:
  std::array<Table, 4> tables_{};
};

__attribute__((target("sse4.2"))) inline uint64_t addWord(uint64_t crc, const uint8_t* data) {
  uint64_t word;
  std::memcpy(&word, data, sizeof word);
  return __builtin_ia32_crc32di(crc, word);
}

__attribute__((target("sse4.2"))) uint32_t instructionRegister(uint32_t crc, const uint8_t* data, int64_t size) {
  static const ZeroStretch zeros;
  for (; size >= 3 * kStretch; data += 3 * kStretch, size -= 3 * kStretch) {
    uint64_t first = crc, second = 0, third = 0;
    for (int64_t i = 0; i < kStretch; i += 8) {
      first = addWord(first, data + i);
      second = addWord(second, data + kStretch + i);
      third = addWord(third, data + 2 * kStretch + i);
    }
    crc = zeros.pass(static_cast<uint32_t>(first)) ^ static_cast<uint32_t>(second);
    crc = zeros.pass(crc) ^ static_cast<uint32_t>(third);
  }
  uint64_t rest = crc;
  for (; size >= 8; data += 8, size -= 8) rest = addWord(rest, data);
  crc = static_cast<uint32_t>(rest);
  for (; size > 0; ++data, --size) crc = __builtin_ia32_crc32qi(crc, *data);
  return crc;
}

#endif

}  // namespace

uint32_t crc32cPortable(const uint8_t* data, int64_t size, uint32_t before) {
  return ~tableRegister(~before, data, size);
}

uint32_t crc32c(const uint8_t* data, int64_t size, uint32_t before) {
#if defined(GUILDHALL_X86)
  static const bool instruction = __builtin_cpu_supports("sse4.2");
  if (instruction) return ~instructionRegister(~before, data, size);
#endif
  return crc32cPortable(data, size, before);
}

}  // namespace guildhall
