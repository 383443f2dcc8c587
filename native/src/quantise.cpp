#include "guildhall/quantise.h"

#include <cstring>

namespace guildhall {

namespace scalar {
const PackKernels& packKernelTable();
}
#if defined(GUILDHALL_X86)
namespace avx2 {
const PackKernels& packKernelTable();
}
namespace avx512 {
const PackKernels& packKernelTable();
}
#endif

const PackKernels& packKernels(Isa isa) {
#if defined(GUILDHALL_X86)
  if (isa == Isa::Avx512) return avx512::packKernelTable();
  if (isa == Isa::Avx2) return avx2::packKernelTable();
#endif
  static_cast<void>(isa);
  return scalar::packKernelTable();
}

namespace {

/** One thread's row, and what it becomes. */
struct RowQuantiser {
  const PackKernels& kernels;
  int64_t k;
  std::vector<float> wide;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> halves;
  std::vector<float> floats;

  explicit RowQuantiser(int64_t cols)
      : kernels(packKernels(bestIsa())),
        k(cols),
        wide(static_cast<size_t>(cols)),
        codes(static_cast<size_t>(paddedInputs(cols))),
        halves(static_cast<size_t>(paddedInputs(cols) / kQ4Group)),
        floats(static_cast<size_t>(paddedInputs(cols) / kBlockInputs)) {}

  void run(const TensorSource& source, int64_t row, WeightFormat format, uint8_t* data, uint8_t* scales,
           int64_t scaleCols) {
    source.readRow(row, wide.data());
    if (format == WeightFormat::kFp8) {
      kernels.fp8Row(wide.data(), k, codes.data(), floats.data());
      std::memcpy(data, codes.data(), static_cast<size_t>(k));
      std::memcpy(scales, floats.data(), static_cast<size_t>(scaleCols) * 4);
      return;
    }
    if (format == WeightFormat::kQ8) {
      kernels.q8Row(wide.data(), k, reinterpret_cast<int8_t*>(codes.data()), halves.data());
      std::memcpy(data, codes.data(), static_cast<size_t>(k));
    } else {
      kernels.q4Row(wide.data(), k, codes.data(), halves.data());
      for (int64_t i = 0; i < k; i += 2) {
        data[i / 2] = static_cast<uint8_t>(codes[static_cast<size_t>(i)] |
                                           (i + 1 < k ? codes[static_cast<size_t>(i + 1)] << 4 : 0));
      }
    }
    std::memcpy(scales, halves.data(), static_cast<size_t>(scaleCols) * 2);
  }
};

Dtype dtypeOf(WeightFormat format) {
  return format == WeightFormat::kQ8 ? Dtype::kQ8 : format == WeightFormat::kQ4 ? Dtype::kQ4 : Dtype::kF8E4m3;
}

}  // namespace

QuantisedTensor quantise(const TensorSource& source, WeightFormat format, ParallelFor& par) {
  const Dtype dtype = dtypeOf(format);
  const int64_t group = scaleGroup(dtype) != 0 ? scaleGroup(dtype) : kBlockInputs;
  const int64_t rowBytes = dtypeRowBytes(dtype, source.cols);
  QuantisedTensor out;
  out.scaleCols = (source.cols + group - 1) / group;
  const int64_t scaleBytes = out.scaleCols * (dtype == Dtype::kF8E4m3 ? 4 : 2);
  out.data.resize(static_cast<size_t>(source.rows() * rowBytes));
  out.scales.resize(static_cast<size_t>(source.rows() * scaleBytes));
  par.run(
      source.rows(),
      [&](int64_t begin, int64_t end, int) {
        RowQuantiser quantiser(source.cols);
        for (int64_t row = begin; row < end; ++row) {
          quantiser.run(source, row, format, out.data.data() + row * rowBytes, out.scales.data() + row * scaleBytes,
                        out.scaleCols);
        }
      },
      64);
  return out;
}

}  // namespace guildhall
