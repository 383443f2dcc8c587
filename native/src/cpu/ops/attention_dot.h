#pragma once

#include "guildhall/ops/attention.h"
#include "guildhall/parallel.h"

namespace guildhall {

#if defined(GUILDHALL_ISA_AVX512)
namespace avx512 {
/** Attention over kDot pages. */
void attentionDot(ParallelFor& par, const AttentionArgs& args);
}  // namespace avx512
#elif defined(GUILDHALL_ISA)
namespace GUILDHALL_ISA {
/** Pools of kDot pages are made only where the instructions exist. */
inline void attentionDot(ParallelFor&, const AttentionArgs&) {}
}  // namespace GUILDHALL_ISA
#endif

}  // namespace guildhall
