// Quantised weights: quantisers against their definitions, packing from either kind of source, and products of the fp8,
// q8 and q4 families against plain loops: every instruction set, row count, gather and thread count gives the same bits.

#include "guildhall/bf16.h"
#include "guildhall/matmul.h"
#include "guildhall/quantise.h"
#include "guildhall/thread_pool.h"
#include "ops/check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

TensorSource sourceOf(const Floats& values, int64_t rows, int64_t cols) {
  TensorSource source;
  source.sourceRows = rows;
  source.cols = cols;
  source.data = reinterpret_cast<const uint8_t*>(values.data());
  source.dataBytes = static_cast<int64_t>(values.size() * sizeof(float));
  return source;
}

TensorSource sourceOf(const QuantisedTensor& tensor, WeightFormat format, int64_t rows, int64_t cols) {
  TensorSource source;
  source.dtype = format == WeightFormat::kQ8 ? Dtype::kQ8 : format == WeightFormat::kQ4 ? Dtype::kQ4 : Dtype::kF8E4m3;
  source.sourceRows = rows;
  source.cols = cols;
  source.data = tensor.data.data();
  source.dataBytes = static_cast<int64_t>(tensor.data.size());
  source.scale = TensorSource::Scale{format == WeightFormat::kFp8 ? Dtype::kF32 : Dtype::kF16, tensor.scales.data(),
                                     static_cast<int64_t>(tensor.scales.size()), rows, tensor.scaleCols};
  source.check("tensor");
  return source;
}

const std::vector<Isa> kIsas = {Isa::Scalar, Isa::Avx2, Isa::Avx512};

std::string sizes(int64_t m, int64_t n, int64_t k) {
  return "m " + std::to_string(m) + " n " + std::to_string(n) + " k " + std::to_string(k);
}

/** Dequantised weights of a tensor quantised to a format. */
Floats roundTrip(const Floats& w, int64_t n, int64_t k, WeightFormat format) {
  ThreadPool serial(1);
  const QuantisedTensor tensor = quantise(sourceOf(w, n, k), format, serial);
  return readAll(sourceOf(tensor, format, n, k));
}

void testConversions() {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = halfToFloat(static_cast<uint16_t>(bits));
    if (!std::isnan(value)) CHECK_MSG(floatToHalf(value) == bits, std::to_string(bits));
  }
  CHECK(floatToHalf(65520.0f) == 0x7c00 && floatToHalf(65519.0f) == 0x7bff);
  CHECK(floatToHalf(0x1p-25f) == 0 && floatToHalf(0x1.8p-25f) == 1);
  for (int bits = 0; bits < 256; ++bits) {
    const float value = f8e4m3ToFloat(static_cast<uint8_t>(bits));
    if (!std::isnan(value)) CHECK_MSG(floatToF8e4m3(value) == bits, std::to_string(bits));
  }
  CHECK(floatToF8e4m3(1e9f) == 0x7e && floatToF8e4m3(-449.0f) == 0xfe);
  // Halfway between 16 and 18 goes to the even mantissa, 16; between 18 and 20 to 20.
  CHECK(f8e4m3ToFloat(floatToF8e4m3(17.0f)) == 16.0f && f8e4m3ToFloat(floatToF8e4m3(19.0f)) == 20.0f);
}

/** Every value is within half a step of its group. */
void testQuantisers() {
  Random random(3);
  for (const int64_t k : {1, 31, 64, 100, 128, 300}) {
    const Floats w = random.normals(5 * k);
    const Floats q8 = roundTrip(w, 5, k, WeightFormat::kQ8);
    const Floats q4 = roundTrip(w, 5, k, WeightFormat::kQ4);
    const Floats fp8 = roundTrip(w, 5, k, WeightFormat::kFp8);
    for (int64_t i = 0; i < 5 * k; ++i) {
      const auto at = static_cast<size_t>(i);
      const int64_t row = i / k;
      const auto largest = [&](int64_t group) {
        float top = 0.0f;
        const int64_t begin = i % k / group * group;
        for (int64_t c = begin; c < std::min(k, begin + group); ++c)
          top = std::max(top, std::fabs(w[static_cast<size_t>(row * k + c)]));
        return top;
      };
      CHECK(std::fabs(q8[at] - w[at]) <= largest(kQ8Group) / 127.0f * 0.501f);
      CHECK(std::fabs(q4[at] - w[at]) <= largest(kQ4Group) * 0.31f);
      CHECK(std::fabs(fp8[at] - w[at]) <= std::max(std::fabs(w[at]) * 0.0626f, largest(kBlockInputs) / 448.0f * 0.001f));
    }
  }
}

void testQuantisersAgree() {
  Random random(4);
  const int64_t k = 300;
  const int64_t padded = paddedInputs(k);
  const Floats x = random.normals(k);
  std::vector<int8_t> q8[3];
  std::vector<uint8_t> q4[3], fp8[3];
  std::vector<uint16_t> scales8[3], scales4[3];
  Floats scalesFp8[3];
  size_t count = 0;
  for (const Isa isa : kIsas) {
    if (!isaSupported(isa)) continue;
    const PackKernels& kernels = packKernels(isa);
    q8[count].resize(static_cast<size_t>(padded));
    q4[count].resize(static_cast<size_t>(padded));
    fp8[count].resize(static_cast<size_t>(padded));
    scales8[count].resize(static_cast<size_t>(padded / kQ8Group));
    scales4[count].resize(static_cast<size_t>(padded / kQ4Group));
    scalesFp8[count].resize(static_cast<size_t>(padded / kBlockInputs));
    kernels.q8Row(x.data(), k, q8[count].data(), scales8[count].data());
    kernels.q4Row(x.data(), k, q4[count].data(), scales4[count].data());
    kernels.fp8Row(x.data(), k, fp8[count].data(), scalesFp8[count].data());
    CHECK(q8[count] == q8[0] && scales8[count] == scales8[0]);
    CHECK(q4[count] == q4[0] && scales4[count] == scales4[0]);
    CHECK(fp8[count] == fp8[0] && sameBits(scalesFp8[count], scalesFp8[0]));
    ++count;
  }
}

/** Packing a quantised tensor gives the bytes of packing its source. */
void testPackingAgrees() {
  Random random(5);
  ThreadPool pool(3);
  for (const auto& [format, family] : std::vector<std::pair<WeightFormat, KernelFamily>>{
           {WeightFormat::kFp8, KernelFamily::kFp8Fma}, {WeightFormat::kQ8, KernelFamily::kQ8Dot}, {WeightFormat::kQ4, KernelFamily::kQ4Dot}}) {
    for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {37, 129}, {64, 256}, {17, 95}}) {
      const Floats w = random.normals(n * k);
      const QuantisedTensor tensor = quantise(sourceOf(w, n, k), format, pool);
      const PackedLinear direct = PackedLinear::pack({sourceOf(w, n, k)}, family, nullptr);
      const PackedLinear cached = PackedLinear::pack({sourceOf(tensor, format, n, k)}, family, nullptr, &pool);
      CHECK(direct.bytes() == cached.bytes());
      CHECK_MSG(std::memcmp(direct.panel(0), cached.panel(0), static_cast<size_t>(direct.bytes())) == 0, sizes(0, n, k));
    }
  }
}

/** An activation row as the int8 families see it: values and the scale of each 64. */
void quantisedRow(const float* x, int64_t k, std::vector<int32_t>& values, Floats& scales) {
  for (int64_t begin = 0; begin < paddedInputs(k); begin += kRowGroup) {
    float top = 0.0f;
    for (int64_t i = begin; i < std::min(k, begin + kRowGroup); ++i) top = std::max(top, std::fabs(x[i]));
    const float scale = top / 127.0f;
    for (int64_t i = begin; i < begin + kRowGroup; ++i) {
      values.push_back(i < k && scale > 0.0f ? static_cast<int32_t>(std::nearbyint(x[i] * (1.0f / scale))) : 0);
    }
    scales.push_back(scale);
  }
}

/** The definition of q8 and q4, from the row-major quantised tensor. */
Floats plainInt8(const Floats& x, const TensorSource& w, int64_t rows, int64_t group) {
  const int64_t n = w.sourceRows;
  const int64_t k = w.cols;
  Floats y;
  Floats wide(static_cast<size_t>(k));
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<int32_t> values;
    Floats scales;
    quantisedRow(x.data() + r * k, k, values, scales);
    for (int64_t c = 0; c < n; ++c) {
      TensorSource codes = w;
      codes.scale.reset();
      codes.readRow(c, wide.data());
      float acc = 0.0f;
      for (int64_t begin = 0; begin < k; begin += group) {
        int32_t sum = 0;
        for (int64_t i = begin; i < std::min(k, begin + group); ++i)
          sum += values[static_cast<size_t>(i)] * static_cast<int32_t>(wide[static_cast<size_t>(i)]);
        acc = std::fma(static_cast<float>(sum), w.scaleAt(c, begin) * scales[static_cast<size_t>(begin / kRowGroup)], acc);
      }
      y.push_back(acc);
    }
  }
  return y;
}

/** The definition of fp8-fma. */
Floats plainFp8(const Floats& x, const TensorSource& w, int64_t rows) {
  const int64_t n = w.sourceRows;
  const int64_t k = w.cols;
  Floats y;
  Floats wide(static_cast<size_t>(k));
  TensorSource codes = w;
  codes.scale.reset();
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      codes.readRow(c, wide.data());
      float acc = 0.0f;
      for (int64_t begin = 0; begin < k; begin += kBlockInputs) {
        float sum = 0.0f;
        for (int64_t i = begin; i < std::min(k, begin + kBlockInputs); ++i)
          sum = std::fma(x[static_cast<size_t>(r * k + i)], wide[static_cast<size_t>(i)], sum);
        acc = std::fma(sum, w.scaleAt(c, begin), acc);
      }
      y.push_back(acc);
    }
  }
  return y;
}

/** Rows of `x` in the order of `index`, all of them in place where it is empty. */
Floats product(const PackedLinear& weight, const Floats& x, int64_t rows, const std::vector<int32_t>& index, Isa isa,
               ParallelFor& par) {
  Arena arena(nullptr);
  Floats y(static_cast<size_t>(rows * weight.n()));
  const MatmulKernels& kernels = matmulKernels(isa);
  const MatmulInput input = prepareInput(kernels, weight.family(), x.data(), weight.k(),
                                         static_cast<int64_t>(x.size()) / weight.k(), weight.k(), arena, par);
  matmul(kernels, par, {{&weight, input, rows, y.data(), weight.n(), index.empty() ? nullptr : index.data()}});
  return y;
}

const std::vector<int64_t> kRows = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 23, 40, 135};

void checkProducts(const PackedLinear& packed, const Floats& x, const Floats& expected, bool everyIsa,
                   ParallelFor& par) {
  const int64_t n = packed.n();
  for (const Isa isa : kIsas) {
    if (!isaSupported(isa) || (!everyIsa && isa != Isa::Avx512)) continue;
    for (const int64_t m : kRows) {
      const Floats rows(x.begin(), x.begin() + m * packed.k());
      const Floats y = product(packed, rows, m, {}, isa, par);
      CHECK_MSG(sameBits(y, Floats(expected.begin(), expected.begin() + m * n)),
                sizes(m, n, packed.k()) + " " + isaName(isa));
    }
    std::vector<int32_t> index;
    Floats gathered;
    for (int64_t i = 0; i < 11; ++i) {
      const auto row = static_cast<int32_t>(i * 7 % kRows.back());
      index.push_back(row);
      gathered.insert(gathered.end(), expected.begin() + row * n, expected.begin() + (row + 1) * n);
    }
    CHECK(sameBits(product(packed, x, 11, index, isa, par), gathered));
  }
}

void testProducts(WeightFormat format, KernelFamily family) {
  ThreadPool pool(3);
  Random random(static_cast<uint64_t>(family) + 100);
  for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {15, 33}, {40, 128}, {70, 640}, {33, 1100}}) {
    const Floats w = random.normals(n * k, 0.05f);
    const Floats x = random.normals(kRows.back() * k);
    const QuantisedTensor tensor = quantise(sourceOf(w, n, k), format, pool);
    const TensorSource source = sourceOf(tensor, format, n, k);
    const PackedLinear packed = PackedLinear::pack({source}, family, nullptr);
    if (family == KernelFamily::kFp8Dot) {
      if (!bf16DotSupported()) continue;
      // Its pairwise sums have no portable definition: one row alone on one thread is the reference, near the fma one.
      ThreadPool serial(1);
      Floats alone;
      Floats rounded = x;
      for (float& v : rounded) v = roundToBf16(v);
      for (int64_t r = 0; r < kRows.back(); ++r) {
        const Floats row(x.begin() + r * k, x.begin() + (r + 1) * k);
        const Floats y = product(packed, row, 1, {}, Isa::Avx512, serial);
        alone.insert(alone.end(), y.begin(), y.end());
      }
      const Floats near = plainFp8(rounded, source, kRows.back());
      for (size_t i = 0; i < near.size(); ++i) CHECK(std::fabs(alone[i] - near[i]) <= 1e-4f * std::sqrt(static_cast<float>(k)));
      checkProducts(packed, x, alone, false, pool);
      continue;
    }
    const Floats expected = family == KernelFamily::kFp8Fma ? plainFp8(x, source, kRows.back())
                                                            : plainInt8(x, source, kRows.back(), scaleGroup(source.dtype));
    checkProducts(packed, x, expected, true, pool);
  }
}

/** What is not finite comes out as NaN, and costs no other row anything. */
void testNotFinite() {
  ThreadPool serial(1);
  Random random(8);
  const int64_t k = 200;
  const Floats w = random.normals(20 * k);
  for (const KernelFamily family : {KernelFamily::kQ8Dot, KernelFamily::kQ4Dot}) {
    const PackedLinear packed = PackedLinear::pack({sourceOf(w, 20, k)}, family, nullptr);
    Floats x = random.normals(3 * k);
    const Floats before = product(packed, x, 3, {}, bestIsa(), serial);
    x[static_cast<size_t>(k + 7)] = std::numeric_limits<float>::infinity();
    const Floats y = product(packed, x, 3, {}, bestIsa(), serial);
    for (size_t i = 0; i < y.size(); ++i) CHECK(i / 20 == 1 ? std::isnan(y[i]) : y[i] == before[i]);
    Floats broken = w;
    broken[static_cast<size_t>(3 * k + 5)] = std::numeric_limits<float>::quiet_NaN();
    const PackedLinear other = PackedLinear::pack({sourceOf(broken, 20, k)}, family, nullptr);
    const Floats z = product(other, random.normals(k), 1, {}, bestIsa(), serial);
    for (size_t i = 0; i < z.size(); ++i) CHECK(std::isnan(z[i]) == (i == 3));
  }
}

}  // namespace

int main() {
  testConversions();
  testQuantisers();
  testQuantisersAgree();
  testPackingAgrees();
  testProducts(WeightFormat::kFp8, KernelFamily::kFp8Fma);
  testProducts(WeightFormat::kFp8, KernelFamily::kFp8Dot);
  testProducts(WeightFormat::kQ8, KernelFamily::kQ8Dot);
  testProducts(WeightFormat::kQ4, KernelFamily::kQ4Dot);
  testNotFinite();
  return 0;
}
