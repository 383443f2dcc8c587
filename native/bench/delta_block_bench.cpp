// Whole gated delta net blocks of the hybrid bench model (norm, projections, everything between, residual), 12 layers
// with weights and states of their own, so that decode reads memory.
//   delta_block_bench [threads] [f32|bf16|q8|q4]

#include <cstring>
#include <memory>
#include <string>

#include "bench.h"
#include "guildhall/backend.h"

using namespace guildhall;
using namespace guildhall::bench;

namespace {

constexpr int64_t kLayers = 12, kSlots = 32, kMaxRows = 512;

GatedDeltaNetSpec blockSpec(WeightFormat format, int64_t layer) {
  GatedDeltaNetSpec spec;
  spec.hidden = 1024;
  spec.numKeyHeads = 8;
  spec.numValueHeads = 16;
  spec.keyHeadDim = spec.valueHeadDim = 128;
  spec.convKernel = 4;
  spec.stateLayer = layer;
  spec.inputNorm = {1e-6f, true};
  spec.outputEps = 1e-6f;
  spec.format = format;
  return spec;
}

TensorSource source(const Floats& values, int64_t rows, int64_t cols) {
  TensorSource s;
  s.dtype = Dtype::kF32;
  s.sourceRows = rows;
  s.cols = cols;
  s.data = reinterpret_cast<const uint8_t*>(values.data());
  s.dataBytes = rows * cols * 4;
  return s;
}

class Blocks {
 public:
  Blocks(int threads, WeightFormat format) : ledger_(std::make_shared<MemoryLedger>()) {
    RuntimeOptions options;
    options.threads = threads;
    backend_ = cpuBackend().create(options, ledger_);
    const Floats values = numbers(int64_t{1024} * 4096, -0.03f, 0.03f);
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      const GatedDeltaNetSpec spec = blockSpec(format, layer);
      const auto matrix = [&](int64_t rows, int64_t cols) { return source(values, rows, cols); };
      layers_.push_back(backend_->createGatedDeltaNet(
          spec, {.inputNorm = matrix(spec.hidden, 1),
                 .inProjQkv = matrix(spec.convDim(), spec.hidden),
                 .inProjZ = matrix(spec.valueDim(), spec.hidden),
                 .inProjB = matrix(spec.numValueHeads, spec.hidden),
                 .inProjA = matrix(spec.numValueHeads, spec.hidden),
                 .conv = matrix(spec.convDim(), spec.convKernel),
                 .dtBias = matrix(spec.numValueHeads, 1),
                 .aLog = matrix(spec.numValueHeads, 1),
                 .norm = matrix(spec.valueHeadDim, 1),
                 .outProj = matrix(spec.hidden, spec.valueDim())}));
    }
    const GatedDeltaNetSpec spec = blockSpec(format, 0);
    states_ = backend_->createStatePool({kSlots, kLayers, 16, 128, 128, spec.convDim(), 4});
    step_ = backend_->createStepBuffers({kMaxRows, spec.hidden, 4, 2, RowFormat::kF32, 1, 16});
  }

  void setBatch(int64_t seqs, int64_t rows, int32_t mode) {
    const auto fill = [](int64_t value, int64_t n) {
      return std::vector<int32_t>(static_cast<size_t>(n), static_cast<int32_t>(value));
    };
    const std::vector<int32_t> tokens = fill(1, seqs * rows), positions = fill(0, 3 * seqs * rows);
    const std::vector<int32_t> count = fill(rows, seqs), context = fill(0, seqs), modes = fill(mode, seqs);
    const int64_t pages = (rows + 63) / 64;
    std::vector<int32_t> start, slot, table;
    for (int64_t i = 0; i < seqs; ++i) {
      start.push_back(static_cast<int32_t>(i * rows));
      slot.push_back(static_cast<int32_t>(i));
      states_->reset(i);
      for (int64_t p = 0; p < pages; ++p) table.push_back(static_cast<int32_t>(i * pages + p));
    }
    const auto view = [](const std::vector<int32_t>& v) { return IntView{v.data(), static_cast<int64_t>(v.size())}; };
    step_->setBatch({view(tokens), view(positions), view(start), view(count), view(context), view(slot), view(modes),
                     view(table), pages});
    const Floats hidden = numbers(seqs * rows * 1024, -1.0f, 1.0f);
    std::copy(hidden.begin(), hidden.end(), step_->hidden());
  }

  void forward() {
    backend_->beginCall();
    for (const auto& layer : layers_) layer->forward(*step_, *states_);
    backend_->endCall();
  }

  double weightBytes() const { return static_cast<double>(ledger_->bytes(MemoryKind::kWeights)); }
  double stateBytes() const { return static_cast<double>(states_->slotBytes()); }

 private:
  std::shared_ptr<MemoryLedger> ledger_;
  std::unique_ptr<Backend> backend_;
  std::vector<std::shared_ptr<GatedDeltaNet>> layers_;
  std::shared_ptr<StatePool> states_;
  std::shared_ptr<StepBuffers> step_;
};

void measure(Blocks& blocks, int64_t seqs, int64_t rows, int32_t mode) {
  blocks.setBatch(seqs, rows, mode);
  const double seconds = medianSeconds(rows > 1 ? 5 : 15, [&] { blocks.forward(); });
  char name[96], note[128];
  std::snprintf(name, sizeof name, "12 blocks, %lld x %lld rows", static_cast<long long>(seqs),
                static_cast<long long>(rows));
  const double bytes = blocks.weightBytes() + 2.0 * blocks.stateBytes() * static_cast<double>(seqs);
  std::snprintf(note, sizeof note, "%.1f GB/s of weights and states", bytes / seconds * 1e-9);
  line(name, seconds, rows > 1 ? "" : note);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const std::string name = argc > 2 ? argv[2] : "bf16";
  const WeightFormat format = name == "f32"  ? WeightFormat::kF32
                              : name == "q8" ? WeightFormat::kQ8
                              : name == "q4" ? WeightFormat::kQ4
                                             : WeightFormat::kBf16;
  Blocks blocks(threads, format);
  ThreadPool pool(threads);
  std::printf("%s, %d threads\n", name.c_str(), threads);
  for (const int64_t seqs : {int64_t{1}, int64_t{16}, kSlots}) {
    std::printf("read bandwidth %.1f GB/s\n", readBandwidth(pool) * 1e-9);
    measure(blocks, seqs, 1, kModeRecurrent);
  }
  std::printf("read bandwidth %.1f GB/s\n", readBandwidth(pool) * 1e-9);
  measure(blocks, 1, kMaxRows, kModeChunked);
  return 0;
}
