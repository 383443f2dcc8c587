#pragma once

#include <cstdint>

namespace guildhall {

/** CRC-32C (Castagnoli) of `size` bytes; `before` is that of the bytes in front of them, 0 for none. */
uint32_t crc32c(const uint8_t* data, int64_t size, uint32_t before = 0);

/** The same from tables alone: what processors without the instruction run, and what the other is tested against. */
uint32_t crc32cPortable(const uint8_t* data, int64_t size, uint32_t before = 0);

}  // namespace guildhall
