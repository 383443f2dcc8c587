// One block of assembly each: compilers keep arrays of accumulators on the stack, which measures the stack instead.

#include "probe_loops.h"

#include <cstring>

#include "guildhall/ops/isa.h"

namespace guildhall::probes {

namespace {

uint64_t readWords(const uint8_t* data, int64_t size) {
  uint64_t sums[4] = {0, 0, 0, 0};
  for (int64_t at = 0; at < size; at += 32) {
    uint64_t words[4];
    std::memcpy(words, data + at, sizeof words);
    for (int i = 0; i < 4; ++i) sums[i] += words[i];
  }
  return sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
}

#if defined(__x86_64__)

#define GUILDHALL_VECTOR_CLOBBERS                                                                                    \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
      "xmm14", "xmm15"

// Prefetching 4 KiB ahead reads 5 to 10 % faster than the hardware's own prefetchers alone do (measured on Zen 5).
uint64_t readAvx512(const uint8_t* data, int64_t size) {
  uint64_t result = 0;
  const uint8_t* const end = data + size;
  asm volatile(
      "vpxorq %%zmm0, %%zmm0, %%zmm0\n vpxorq %%zmm1, %%zmm1, %%zmm1\n"
      "vpxorq %%zmm2, %%zmm2, %%zmm2\n vpxorq %%zmm3, %%zmm3, %%zmm3\n"
      ".p2align 5\n 1:\n"
      "prefetcht0 4096(%[at])\n prefetcht0 4160(%[at])\n"
      "prefetcht0 4224(%[at])\n prefetcht0 4288(%[at])\n"
      "prefetcht0 4352(%[at])\n prefetcht0 4416(%[at])\n"
      "prefetcht0 4480(%[at])\n prefetcht0 4544(%[at])\n"
      "vpaddq 0(%[at]), %%zmm0, %%zmm0\n vpaddq 64(%[at]), %%zmm1, %%zmm1\n"
      "vpaddq 128(%[at]), %%zmm2, %%zmm2\n vpaddq 192(%[at]), %%zmm3, %%zmm3\n"
      "vpaddq 256(%[at]), %%zmm0, %%zmm0\n vpaddq 320(%[at]), %%zmm1, %%zmm1\n"
      "vpaddq 384(%[at]), %%zmm2, %%zmm2\n vpaddq 448(%[at]), %%zmm3, %%zmm3\n"
      "add $512, %[at]\n cmp %[end], %[at]\n jb 1b\n"
      "vpaddq %%zmm1, %%zmm0, %%zmm0\n vpaddq %%zmm3, %%zmm2, %%zmm2\n vpaddq %%zmm2, %%zmm0, %%zmm0\n"
      "vmovq %%xmm0, %[result]\n vzeroupper\n"
      : [at] "+r"(data), [result] "=&r"(result)
      : [end] "r"(end)
      : "cc", "memory", GUILDHALL_VECTOR_CLOBBERS);
  return result;
}

uint64_t readAvx2(const uint8_t* data, int64_t size) {
  uint64_t result = 0;
  const uint8_t* const end = data + size;
  asm volatile(
      "vpxor %%ymm0, %%ymm0, %%ymm0\n vpxor %%ymm1, %%ymm1, %%ymm1\n"
      "vpxor %%ymm2, %%ymm2, %%ymm2\n vpxor %%ymm3, %%ymm3, %%ymm3\n"
      ".p2align 5\n 1:\n"
      "vpaddq 0(%[at]), %%ymm0, %%ymm0\n vpaddq 32(%[at]), %%ymm1, %%ymm1\n"
      "vpaddq 64(%[at]), %%ymm2, %%ymm2\n vpaddq 96(%[at]), %%ymm3, %%ymm3\n"
      "add $128, %[at]\n cmp %[end], %[at]\n jb 1b\n"
      "vpaddq %%ymm1, %%ymm0, %%ymm0\n vpaddq %%ymm3, %%ymm2, %%ymm2\n vpaddq %%ymm2, %%ymm0, %%ymm0\n"
      "vmovq %%xmm0, %[result]\n vzeroupper\n"
      : [at] "+r"(data), [result] "=&r"(result)
      : [end] "r"(end)
      : "cc", "memory", GUILDHALL_VECTOR_CLOBBERS);
  return result;
}

// 14 chains: enough for two instructions a cycle at up to seven cycles of latency. Sources are zero, which no CPU of
// interest treats specially in these instructions.
#define GUILDHALL_PEAK_LOOP(name, instruction, width)                                                                \
  void name(int64_t count) {                                                                                         \
    asm volatile(                                                                                                    \
        "vzeroall\n .p2align 5\n 1:\n" instruction " %%" width "0, %%" width "1, %%" width "2\n" instruction " %%"   \
        width "0, %%" width "1, %%" width "3\n" instruction " %%" width "0, %%" width "1, %%" width "4\n" instruction \
        " %%" width "0, %%" width "1, %%" width "5\n" instruction " %%" width "0, %%" width "1, %%" width            \
        "6\n" instruction " %%" width "0, %%" width "1, %%" width "7\n" instruction " %%" width "0, %%" width        \
        "1, %%" width "8\n" instruction " %%" width "0, %%" width "1, %%" width "9\n" instruction " %%" width        \
        "0, %%" width "1, %%" width "10\n" instruction " %%" width "0, %%" width "1, %%" width "11\n" instruction    \
        " %%" width "0, %%" width "1, %%" width "12\n" instruction " %%" width "0, %%" width "1, %%" width           \
        "13\n" instruction " %%" width "0, %%" width "1, %%" width "14\n" instruction " %%" width "0, %%" width      \
        "1, %%" width "15\n dec %[count]\n jnz 1b\n vzeroupper\n"                                                    \
        : [count] "+r"(count)                                                                                        \
        :                                                                                                            \
        : "cc", GUILDHALL_VECTOR_CLOBBERS);                                                                          \
  }

GUILDHALL_PEAK_LOOP(fmaAvx512, "vfmadd231ps", "zmm")
GUILDHALL_PEAK_LOOP(fmaAvx2, "vfmadd231ps", "ymm")
GUILDHALL_PEAK_LOOP(bf16Avx512, "vdpbf16ps", "zmm")
GUILDHALL_PEAK_LOOP(vnniAvx512, "vpdpbusd", "zmm")

#undef GUILDHALL_PEAK_LOOP
#undef GUILDHALL_VECTOR_CLOBBERS

#endif

}  // namespace

ReadLoop readLoop() {
#if defined(__x86_64__)
  if (isaSupported(Isa::Avx512)) return readAvx512;
  if (isaSupported(Isa::Avx2)) return readAvx2;
#endif
  return readWords;
}

Peak fmaPeak() {
#if defined(__x86_64__)
  if (isaSupported(Isa::Avx512)) return {fmaAvx512, 32};
  if (isaSupported(Isa::Avx2)) return {fmaAvx2, 16};
#endif
  return {};
}

Peak bf16Peak() {
#if defined(__x86_64__)
  if (isaSupported(Isa::Avx512) && __builtin_cpu_supports("avx512bf16")) return {bf16Avx512, 64};
#endif
  return {};
}

Peak vnniPeak() {
#if defined(__x86_64__)
  if (isaSupported(Isa::Avx512) && __builtin_cpu_supports("avx512vnni")) return {vnniAvx512, 128};
#endif
  return {};
}

}  // namespace guildhall::probes
