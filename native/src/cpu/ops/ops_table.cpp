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
    .gatedRmsNorm = gatedRmsNorm,
    .l2Norm = l2Norm,
    .rope = rope,
    .kvWrite = kvWrite,
    .attention = attention,
    .causalConv = causalConv,
    .deltaGates = deltaGates,
    .deltaRule = deltaRule,
    .softmaxTopk = softmaxTopk,
};

const OpsTable& opsTable() { return kTable; }

}  // namespace guildhall::GUILDHALL_ISA
