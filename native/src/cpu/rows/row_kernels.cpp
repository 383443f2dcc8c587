#include "row_kernels.h"

namespace guildhall {

RowKernels rowKernels(Isa isa) {
#if defined(GUILDHALL_X86)
  if (isa == Isa::Avx512) return {avx512::addWeighted, avx512::roundRow, avx512::widenRow, avx512::combineRow};
  if (isa == Isa::Avx2) return {avx2::addWeighted, avx2::roundRow, avx2::widenRow, avx2::combineRow};
#else
  static_cast<void>(isa);
#endif
  return {scalar::addWeighted, scalar::roundRow, scalar::widenRow, scalar::combineRow};
}

}  // namespace guildhall
