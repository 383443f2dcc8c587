#include "blocks.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

class CpuEmbedding final : public Embedding {
 public:
  CpuEmbedding(CpuContextPtr cpu, const TensorSource& table, WeightFormat format)
      : cpu_(std::move(cpu)), vocab_(table.rows()), hidden_(table.cols) {
    // A bf16 table is exact in bf16 whatever the format.
    const bool bf16 = format != WeightFormat::kF32 || (table.dtype == Dtype::kBf16 && !table.scale);
    rowFormat_ = bf16 ? RowFormat::kBf16 : RowFormat::kF32;
    rowBytes_ = hidden_ * rowFormatBytes(rowFormat_);
    table_ = Buffer(checkedProduct("table", {vocab_, rowBytes_}), MemoryKind::kWeights, cpu_->ledger);
    std::vector<float> row(static_cast<size_t>(hidden_));
    for (int64_t v = 0; v < vocab_; ++v) {
      table.readRow(v, row.data());
      cpu_->rows.round(row.data(), rowOf(v), rowFormat_, hidden_);
    }
  }

  void check(const StepBuffers& step) const override {
    checkStep(step, hidden_);
    for (int64_t t = 0; t < step.numTokens(); ++t) {
      checkRange("step.tokenIds[" + std::to_string(t) + "]", step.batch().tokenIds()[static_cast<size_t>(t)], 0,
                 vocab_ - 1);
    }
  }

  void forward(StepBuffers& step) override {
    const auto& ids = step.batch().tokenIds();
    for (size_t t = 0; t < ids.size(); ++t) {
      cpu_->rows.widen(rowOf(ids[t]), rowFormat_, step.hidden() + static_cast<int64_t>(t) * hidden_, hidden_);
    }
  }

 private:
  uint8_t* rowOf(int64_t id) const { return table_.as<uint8_t>() + id * rowBytes_; }

  CpuContextPtr cpu_;
  int64_t vocab_;
  int64_t hidden_;
  int64_t rowBytes_ = 0;
  RowFormat rowFormat_ = RowFormat::kF32;
  Buffer table_;
};

}  // namespace

std::shared_ptr<Embedding> makeCpuEmbedding(CpuContextPtr cpu, const TensorSource& table, WeightFormat format) {
  table.check("table");
  return std::make_shared<CpuEmbedding>(std::move(cpu), table, format);
}

}  // namespace guildhall
