#pragma once

namespace guildhall {

/** Instruction sets that the vector code is compiled for. All give the same bits. */
enum class Isa : int { Scalar = 0, Avx2 = 1, Avx512 = 2 };

/** Whether this processor (and this build) can run the variant. Scalar always can. */
bool isaSupported(Isa isa);

/** The widest supported variant. */
Isa bestIsa();

/** "scalar", "avx2" or "avx512". */
const char* isaName(Isa isa);

}  // namespace guildhall
