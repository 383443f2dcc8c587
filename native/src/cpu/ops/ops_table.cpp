#include "kernels.h"

namespace guildhall::GUILDHALL_ISA {

#if defined(GUILDHALL_ISA_AVX512)
constexpr Isa kIsa = Isa::Avx512;
#elif defined(GUILDHALL_ISA_AVX2)
constexpr Isa kIsa = Isa::Avx2;
#else
constexpr Isa kIsa = Isa::Scalar;
#endif

static constexpr OpsTable kTable = {
    .isa = kIsa,
    .exp = expArray,
    .sigmoid = sigmoidArray,
    .silu = siluArray,
    .softplus = softplusArray,
    .maxValue = maxValue,
    .expSum = expSum,
    .indexesAtLeast = indexesAtLeast,
    .roundToBf16 = roundToBf16,
    .widenBf16 = widenBf16,
    .siluMul = siluMul,
    .addRows = addRows,
    .gateMul = gateMul,
    .rmsNorm = rmsNorm,
    .rope = rope,
    .kvWrite = kvWrite,
    .prepareHeads = prepareHeads,
    .attention = attention,
    .deltaNet = deltaNet,
    .softmaxTopk = softmaxTopk,
};

const OpsTable& opsTable() { return kTable; }

}  // namespace guildhall::GUILDHALL_ISA
