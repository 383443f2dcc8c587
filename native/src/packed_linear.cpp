#include "guildhall/packed_linear.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "guildhall/quantise.h"

namespace guildhall {

namespace {

struct RowRef {
  const TensorSource* source;
  int64_t row;
};

/** Sixteen rows being packed: bytes of their words, and scales where the format has them. */
class PanelPacker {
 public:
  PanelPacker(int64_t k, KernelFamily family)
      : kernels_(packKernels(bestIsa())),
        family_(family),
        k_(k),
        padded_(paddedInputs(k)),
        rowBytes_((padded_ + 2) * 4),
        wide_(static_cast<size_t>(k)),
        codes_(static_cast<size_t>(kPanelCols * rowBytes_)),
        scales_(static_cast<size_t>(kPanelCols * padded_ / kQ4Group)),
        words_(static_cast<size_t>(kBlockInputs / 4 * 64)) {}

  void pack(const RowRef* rows, int64_t lanes, uint8_t* panel) {
    for (int64_t lane = 0; lane < kPanelCols; ++lane) {
      if (lane < lanes) {
        encode(rows[lane], lane);
      } else {
        clear(lane);
      }
    }
    switch (family_) {
      case KernelFamily::kF32Fma:
        return kernels_.transposeWords(rows_, k_, panel);
      case KernelFamily::kBf16Fma:
      case KernelFamily::kBf16Dot:
        return packPairs(panel);
      default:
        for (int64_t block = 0; block < padded_ / kBlockInputs; ++block) packBlock(block, panel);
    }
  }

 private:
  uint8_t* codesOf(int64_t lane) { return codes_.data() + lane * rowBytes_; }
  float* scalesOf(int64_t lane) { return scales_.data() + lane * (padded_ / kQ4Group); }
  const float* readWide(const RowRef& ref) {
    ref.source->readRow(ref.row, wide_.data());
    return wide_.data();
  }

  void clear(int64_t lane) {
    // q8 and q4 hold value + zero point; a scale of zero makes any value a zero.
    std::memset(codesOf(lane), 0, static_cast<size_t>(rowBytes_));
    std::fill_n(scalesOf(lane), padded_ / kQ4Group, 0.0f);
    rows_[lane] = codesOf(lane);
  }

  /** Row `lane` in the format: rows_[lane] points at its bytes. */
  void encode(const RowRef& ref, int64_t lane) {
    rows_[lane] = codesOf(lane);
    switch (family_) {
      case KernelFamily::kF32Fma:
        return ref.source->readRow(ref.row, reinterpret_cast<float*>(codesOf(lane)));
      case KernelFamily::kBf16Fma:
      case KernelFamily::kBf16Dot:
        return encodeBf16(ref, lane);
      case KernelFamily::kFp8Fma:
      case KernelFamily::kFp8Dot:
        return encodeFp8(ref, lane);
      case KernelFamily::kQ8Dot:
        return encodeQ8(ref, lane);
      case KernelFamily::kQ4Dot:
        return encodeQ4(ref, lane);
    }
  }

  void encodeBf16(const RowRef& ref, int64_t lane) {
    if (ref.source->dtype == Dtype::kBf16 && !ref.source->scale) {
      rows_[lane] = ref.source->rowData(ref.row);
      return;
    }
    kernels_.bf16Row(readWide(ref), k_, reinterpret_cast<Bf16*>(codesOf(lane)));
  }

  /** Scales of a source that is in the format already. */
  void copyScales(const RowRef& ref, int64_t lane, int64_t group) {
    for (int64_t g = 0; g * group < padded_; ++g) {
      scalesOf(lane)[g] = g * group < k_ ? ref.source->scaleAt(ref.row, g * group) : 0.0f;
    }
  }

  void widenScales(const uint16_t* halves, int64_t count, int64_t lane) {
    for (int64_t g = 0; g < count; ++g) scalesOf(lane)[g] = halfToFloat(halves[g]);
  }

  void encodeFp8(const RowRef& ref, int64_t lane) {
    if (ref.source->dtype != Dtype::kF8E4m3) return kernels_.fp8Row(readWide(ref), k_, codesOf(lane), scalesOf(lane));
    std::memcpy(codesOf(lane), ref.source->rowData(ref.row), static_cast<size_t>(k_));
    std::memset(codesOf(lane) + k_, 0, static_cast<size_t>(padded_ - k_));
    copyScales(ref, lane, kBlockInputs);
  }

  void encodeQ8(const RowRef& ref, int64_t lane) {
    uint8_t* const codes = codesOf(lane);
    if (ref.source->dtype == Dtype::kQ8) {
      std::memcpy(codes, ref.source->rowData(ref.row), static_cast<size_t>(k_));
      std::memset(codes + k_, 0, static_cast<size_t>(padded_ - k_));
      copyScales(ref, lane, kQ8Group);
    } else {
      halves_.resize(static_cast<size_t>(padded_ / kQ8Group));
      kernels_.q8Row(readWide(ref), k_, reinterpret_cast<int8_t*>(codes), halves_.data());
      widenScales(halves_.data(), padded_ / kQ8Group, lane);
    }
    for (int64_t i = 0; i < padded_; ++i) codes[i] ^= 0x80;
  }

  void encodeQ4(const RowRef& ref, int64_t lane) {
    uint8_t* const codes = codesOf(lane);
    if (ref.source->dtype == Dtype::kQ4) {
      const uint8_t* const data = ref.source->rowData(ref.row);
      for (int64_t i = 0; i < padded_; ++i) codes[i] = i < k_ ? data[i / 2] >> (i % 2 * 4) & 15 : 8;
      copyScales(ref, lane, kQ4Group);
    } else {
      halves_.resize(static_cast<size_t>(padded_ / kQ4Group));
      kernels_.q4Row(readWide(ref), k_, codes, halves_.data());
      widenScales(halves_.data(), padded_ / kQ4Group, lane);
    }
  }

  void packPairs(uint8_t* panel) {
    const int64_t whole = k_ / 2;
    kernels_.transposeWords(rows_, whole, panel);
    if (k_ % 2 == 0) return;
    for (int64_t lane = 0; lane < kPanelCols; ++lane) {
      Bf16 pair[2] = {0, 0};
      std::memcpy(pair, rows_[lane] + 4 * whole, sizeof pair[0]);
      std::memcpy(panel + 64 * whole + 4 * lane, pair, sizeof pair);
    }
  }

  void packBlock(int64_t block, uint8_t* panel) {
    const uint8_t* rows[kPanelCols];
    for (int64_t lane = 0; lane < kPanelCols; ++lane) rows[lane] = rows_[lane] + block * kBlockInputs;
    constexpr int64_t kWords = kBlockInputs / 4;
    if (family_ == KernelFamily::kQ8Dot) {
      uint8_t* const out = panel + block * kQ8BlockBytes;
      kernels_.transposeWords(rows, kWords, out + 64);
      return writeHalfScales(block * kBlockInputs / kQ8Group, kBlockInputs / kQ8Group, out);
    }
    kernels_.transposeWords(rows, kWords, words_.data());
    if (family_ == KernelFamily::kQ4Dot) {
      uint8_t* const out = panel + block * kQ4BlockBytes;
      for (int64_t step = 0; step < kWords / 2; ++step) joinNibbles(words_.data() + 128 * step, out + 128 + 64 * step);
      return writeHalfScales(block * kBlockInputs / kQ4Group, kBlockInputs / kQ4Group, out);
    }
    uint8_t* const out = panel + block * kFp8BlockBytes;
    for (int64_t lane = 0; lane < kPanelCols; ++lane) std::memcpy(out + 4 * lane, scalesOf(lane) + block, 4);
    for (int64_t step = 0; step < kWords; ++step) splitPairs(words_.data() + 64 * step, out + 64 + 64 * step);
  }

  void writeHalfScales(int64_t first, int64_t count, uint8_t* out) {
    for (int64_t g = 0; g < count; ++g) {
      for (int64_t lane = 0; lane < kPanelCols; ++lane) {
        const uint16_t half = floatToHalf(scalesOf(lane)[first + g]);
        std::memcpy(out + 32 * g + 2 * lane, &half, sizeof half);
      }
    }
  }

  static void joinNibbles(const uint8_t* words, uint8_t* out) {
    for (int64_t i = 0; i < 64; ++i) out[i] = static_cast<uint8_t>(words[i] | words[64 + i] << 4);
  }

  /** Quads of four outputs become their first pairs, then their second ones. */
  static void splitPairs(const uint8_t* words, uint8_t* out) {
    for (int64_t i = 0; i < 64; ++i) {
      const int64_t lane = i / 4;
      const int64_t part = i % 4;
      out[lane / 4 * 16 + part / 2 * 8 + lane % 4 * 2 + part % 2] = words[i];
    }
  }

  const PackKernels& kernels_;
  KernelFamily family_;
  int64_t k_;
  int64_t padded_;
  int64_t rowBytes_;
  std::vector<float> wide_;
  std::vector<uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<uint16_t> halves_;
  std::vector<uint8_t> words_;
  const uint8_t* rows_[kPanelCols] = {};
};

/** Rows of stacked parts by their number in the whole. */
class StackedRows {
 public:
  explicit StackedRows(const std::vector<TensorSource>& parts) : parts_(parts) {}

  RowRef at(int64_t row) const {
    size_t part = 0;
    while (row >= parts_[part].rows()) row -= parts_[part++].rows();
    return {&parts_[part], row};
  }

  /** Rows [begin, end) will be read. */
  void mapAhead(int64_t begin, int64_t end) const {
    int64_t first = 0;
    for (const TensorSource& part : parts_) {
      const int64_t from = std::max<int64_t>(begin - first, 0);
      const int64_t to = std::min(end - first, part.rows());
      first += part.rows();
      if (part.rowMap != nullptr || from >= to) continue;
      guildhall::mapAhead(part.rowData(from), (to - from) * dtypeRowBytes(part.dtype, part.cols));
    }
  }

 private:
  const std::vector<TensorSource>& parts_;
};

}  // namespace

PackedLinear PackedLinear::pack(const std::vector<TensorSource>& parts, KernelFamily family,
                                std::shared_ptr<MemoryLedger> ledger, ParallelFor* par) {
  PackedLinear packed;
  packed.family_ = family;
  packed.k_ = parts.front().cols;
  for (const TensorSource& part : parts) packed.n_ += part.rows();
  packed.data_ = Buffer(packed.numPanels() * packed.panelBytes(), MemoryKind::kWeights, std::move(ledger));

  const StackedRows stacked(parts);
  const auto packPanels = [&](int64_t begin, int64_t end, int) {
    PanelPacker packer(packed.k_, family);
    stacked.mapAhead(begin * kPanelCols, std::min(packed.n_, end * kPanelCols));
    for (int64_t panel = begin; panel < end; ++panel) {
      RowRef rows[kPanelCols];
      const int64_t first = panel * kPanelCols;
      const int64_t lanes = std::min(kPanelCols, packed.n_ - first);
      for (int64_t lane = 0; lane < lanes; ++lane) rows[lane] = stacked.at(first + lane);
      packer.pack(rows, lanes, packed.data_.as<uint8_t>() + panel * packed.panelBytes());
    }
  };
  if (par == nullptr) {
    packPanels(0, packed.numPanels(), 0);
  } else {
    par->run(packed.numPanels(), packPanels, 8);
  }
  return packed;
}

}  // namespace guildhall
