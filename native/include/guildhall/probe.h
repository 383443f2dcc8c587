#pragma once

#include <cstdint>

namespace guildhall {

/** What a probe measures: the ceilings that kernels are compared with. */
enum class ProbeKind {
  /** Bytes read from memory. */
  kRead,
  /** Single-precision fused multiply-adds, two operations each. */
  kFma,
  /** BF16 products added in pairs to single precision (AVX-512 BF16), four operations a lane. */
  kBf16,
  /** Byte products added in fours to 32-bit integers (AVX-512 VNNI), eight operations a lane. */
  kVnni,
};

/** Whether this CPU has the instructions. */
bool probeSupported(ProbeKind kind);

/**
 * Work per second that `threads` threads do at once: bytes of `data` read over and over (each thread its own part), or
 * arithmetic operations on registers. Blocks for about `milliseconds`.
 *
 * @param data for kRead only, size > 0; should be far larger than the last-level cache
 * @throws InvalidArgument naming kind, threads, milliseconds or data
 */
double probe(ProbeKind kind, int64_t threads, int64_t milliseconds, const uint8_t* data, int64_t size);

}  // namespace guildhall
