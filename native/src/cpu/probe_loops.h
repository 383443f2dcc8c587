#pragma once

#include <cstdint>

namespace guildhall::probes {

/** Reads `size` bytes, a multiple of kReadBlock, and returns something that depends on all of them. */
using ReadLoop = uint64_t (*)(const uint8_t* data, int64_t size);
/** Executes `count` rounds of kRoundInstructions independent instructions. */
using PeakLoop = void (*)(int64_t count);

constexpr int64_t kReadBlock = 1024;
constexpr int64_t kRoundInstructions = 14;

/** The widest loop that this CPU can run. */
ReadLoop readLoop();

/** Null where the CPU lacks the instructions; `operations` is what one instruction counts for. */
struct Peak {
  PeakLoop loop = nullptr;
  int64_t operations = 0;
};
Peak fmaPeak();
Peak bf16Peak();
Peak vnniPeak();

}  // namespace guildhall::probes
