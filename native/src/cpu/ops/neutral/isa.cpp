#include "guildhall/ops/isa.h"

#include "guildhall/ops/ops.h"

namespace guildhall {

namespace scalar {
const OpsTable& opsTable();
}
#if defined(__x86_64__)
namespace avx2 {
const OpsTable& opsTable();
}
namespace avx512 {
const OpsTable& opsTable();
}
#endif

bool isaSupported(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::Scalar:
      return true;
    case Isa::Avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
             __builtin_cpu_supports("f16c");
    case Isa::Avx512:
      return isaSupported(Isa::Avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
  return false;
#else
  return isa == Isa::Scalar;
#endif
}

Isa bestIsa() {
  if (isaSupported(Isa::Avx512)) return Isa::Avx512;
  return isaSupported(Isa::Avx2) ? Isa::Avx2 : Isa::Scalar;
}

const char* isaName(Isa isa) {
  switch (isa) {
    case Isa::Avx2:
      return "avx2";
    case Isa::Avx512:
      return "avx512";
    case Isa::Scalar:
      break;
  }
  return "scalar";
}

const OpsTable& ops(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::Avx512) return avx512::opsTable();
  if (isa == Isa::Avx2) return avx2::opsTable();
#endif
  (void)isa;
  return scalar::opsTable();
}

}  // namespace guildhall
