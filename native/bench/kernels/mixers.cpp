#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>

#include "bench.h"

namespace guildhall::bench {

namespace {

/** A batch of equal sequences, with the arrays that its view borrows. */
struct Batch {
  std::vector<int32_t> rowStart, rowCount, contextLen, stateSlot, mode, pageTable;
  int64_t maxPages = 0;

  Batch(int64_t sequences, int64_t rows, int64_t context, int32_t deltaMode) {
    maxPages = (context + rows + kPageTokens - 1) / kPageTokens;
    for (int64_t s = 0; s < sequences; ++s) {
      rowStart.push_back(static_cast<int32_t>(s * rows));
      rowCount.push_back(static_cast<int32_t>(rows));
      contextLen.push_back(static_cast<int32_t>(context));
      stateSlot.push_back(static_cast<int32_t>(s));
      mode.push_back(deltaMode);
    }
    pageTable.resize(static_cast<size_t>(sequences * maxPages));
    std::iota(pageTable.begin(), pageTable.end(), 0);
  }

  BatchView view() const {
    BatchView view;
    view.numSeqs = static_cast<int32_t>(rowStart.size());
    view.rowStart = rowStart.data();
    view.rowCount = rowCount.data();
    view.contextLen = contextLen.data();
    view.stateSlot = stateSlot.data();
    view.mode = mode.data();
    view.pageTable = pageTable.data();
    view.maxPages = maxPages;
    return view;
  }
};

/** Numbers into page 0, and page 0 into all others. */
void fillPages(const Setup& setup, KvPool& pool) {
  const KvPoolOptions& o = pool.options();
  const int64_t width = o.numKvHeads * o.headDim;
  const std::vector<float> values = randomValues(kPageTokens * width, 1.0f, 5);
  const Batch batch(1, kPageTokens, 0, kModeChunked);
  for (int64_t layer = 0; layer < o.numLayers; ++layer) {
    KvWriteArgs write;
    write.batch = batch.view();
    write.kv = pool.view(layer);
    write.k = write.v = values.data();
    write.kRowStride = write.vRowStride = width;
    setup.cpu->ops.kvWrite(setup.cpu->pool, write);
  }
  for (int64_t page = 1; page < o.numPages; ++page) pool.copyPage(0, page);
}

}  // namespace

/** Attention of `rows` new tokens of each of `sequences` over `context` tokens in BF16 pages, one layer a call. */
Kernel attentionKernel(const Arguments& arguments, const Setup& setup) {
  const int64_t heads = arguments.number("heads", 16);
  const int64_t kvHeads = arguments.number("kv-heads", 2);
  const int64_t dim = arguments.number("head-dim", 256);
  const int64_t rows = arguments.number("rows", 1);
  const int64_t sequences = arguments.number("sequences", 1);
  const int64_t context = arguments.number("context", 8192, 0);
  struct Data {
    Batch batch;
    std::unique_ptr<KvPool> pool;
    AttentionPlan plan;
    std::vector<float> q, out, scratch;
  };
  Batch batch(sequences, rows, context, kModeRecurrent);
  KvPoolOptions options;
  options.numPages = static_cast<int64_t>(batch.pageTable.size());
  options.numKvHeads = kvHeads;
  options.headDim = dim;
  options.format = KvFormat::kBf16;
  options.kernel = setup.cpu->info.bf16Dot ? KvKernel::kDot : KvKernel::kFma;
  options.numLayers = copiesBeyondCaches(options.numPages * kPageTokens * 2 * kvHeads * dim * 2);
  const auto data = std::make_shared<Data>(Data{std::move(batch), std::make_unique<KvPool>(options, setup.cpu->ledger), {}, {}, {}, {}});
  fillPages(setup, *data->pool);
  data->q = randomValues(sequences * rows * heads * dim, 1.0f, 6);
  data->out.resize(data->q.size());
  Kernel kernel;
  kernel.run = [data, setup, heads, kvHeads, dim](int64_t call) {
    AttentionArgs args;
    args.batch = data->batch.view();
    args.kv = data->pool->view(call % data->pool->options().numLayers);
    args.q = data->q.data();
    args.qRowStride = args.outRowStride = heads * dim;
    args.qHeadStride = args.outHeadStride = dim;
    args.out = data->out.data();
    args.numHeads = heads;
    args.scale = 1.0f / std::sqrt(static_cast<float>(dim));
    data->plan.set(args.batch, {heads, kvHeads, dim}, setup.cpu->pool.threads());
    data->scratch.resize(std::max(data->scratch.size(), static_cast<size_t>(data->plan.scratchFloats())));
    args.plan = &data->plan;
    args.scratch = data->scratch.data();
    setup.cpu->ops.attention(setup.cpu->pool, args);
  };
  // Each sequence's keys and values once, whatever shares them; a row sees half of its own prompt on average.
  const double seen = static_cast<double>(context) + static_cast<double>(rows + 1) / 2;
  kernel.bytes = static_cast<double>(sequences * (context + rows) * 2 * kvHeads * dim * 2);
  kernel.flops = 4.0 * static_cast<double>(sequences * rows * heads * dim) * seen;
  return kernel;
}

namespace {

struct DeltaData {
  Batch batch;
  DeltaNetShape shape;
  int64_t layers;
  Buffer state;
  std::vector<float> x, out, conv, aLog, dtBias, norm, scratch;
  static constexpr int64_t kConvKernel = 4;

  int64_t recurrentFloats() const { return shape.numValueHeads * shape.keyDim * shape.valueDim; }
  int64_t slotFloats() const { return recurrentFloats() + (kConvKernel - 1) * shape.channels(); }
};

void runDelta(CpuContext& cpu, DeltaData& data, int64_t call) {
  const DeltaNetShape& shape = data.shape;
  const auto slots = static_cast<int64_t>(data.batch.rowStart.size());
  DeltaNetArgs args;
  args.batch = data.batch.view();
  args.shape = shape;
  args.x = data.x.data();
  args.xRowStride = shape.channels() + shape.numValueHeads * shape.valueDim + 2 * shape.numValueHeads;
  args.convWeight = data.conv.data();
  args.convKernel = DeltaData::kConvKernel;
  args.aLog = data.aLog.data();
  args.dtBias = data.dtBias.data();
  args.normWeight = data.norm.data();
  args.state = data.state.as<float>() + call % data.layers * slots * data.slotFloats();
  args.convState = args.state + data.recurrentFloats();
  args.stateStride = data.slotFloats();
  args.out = data.out.data();
  args.outRowStride = shape.numValueHeads * shape.valueDim;
  args.scratch = data.scratch.data();
  cpu.ops.deltaNet(cpu.pool, args);
}

}  // namespace

/** Convolution, delta rule and gated norm of `rows` tokens of each of `sequences`, one layer a call. */
Kernel deltaKernel(const Arguments& arguments, const Setup& setup) {
  const DeltaNetShape shape{arguments.number("key-heads", 8), arguments.number("value-heads", 16), arguments.number("dim", 128), arguments.number("dim", 128)};
  const int64_t rows = arguments.number("rows", 1);
  const int64_t sequences = arguments.number("sequences", 1);
  const bool chunked = arguments.text("mode", "recurrent") == "chunked";
  DeltaData made{Batch(sequences, rows, 0, chunked ? kModeChunked : kModeRecurrent), shape, 1, {}, {}, {}, {}, {}, {}, {}, {}};
  const int64_t layerBytes = sequences * made.slotFloats() * 4;
  made.layers = copiesBeyondCaches(layerBytes);
  made.state = Buffer(made.layers * layerBytes, MemoryKind::kStates, setup.cpu->ledger);
  std::memset(made.state.as<uint8_t>(), 0, static_cast<size_t>(made.layers * layerBytes));
  const int64_t width = shape.channels() + shape.numValueHeads * shape.valueDim + 2 * shape.numValueHeads;
  made.x = randomValues(sequences * rows * width, 1.0f, 7);
  made.out.resize(static_cast<size_t>(sequences * rows * shape.numValueHeads * shape.valueDim));
  made.conv = randomValues(DeltaData::kConvKernel * shape.channels(), 0.5f, 8);
  made.aLog = randomValues(shape.numValueHeads, 1.0f, 9);
  made.dtBias = randomValues(shape.numValueHeads, 1.0f, 10);
  made.norm = std::vector<float>(static_cast<size_t>(shape.valueDim), 1.0f);
  made.scratch.resize(static_cast<size_t>(deltaNetScratchFloats(shape, setup.cpu->pool.threads())));
  const auto data = std::make_shared<DeltaData>(std::move(made));
  Kernel kernel;
  kernel.run = [data, setup](int64_t call) { runDelta(*setup.cpu, *data, call); };
  // The state is read and written; recurrent: decay, prediction, update and read of Dk x Dv a token and head.
  kernel.bytes = 2.0 * static_cast<double>(sequences * data->recurrentFloats()) * 4.0;
  const double cells = static_cast<double>(sequences * rows * data->recurrentFloats());
  // Chunked, per token and head: three products with the state, two with 64 x 64 tiles on either side of the solve.
  const double tiles = static_cast<double>(sequences * rows * shape.numValueHeads) * 64.0 * static_cast<double>(2 * shape.keyDim + 2 * shape.valueDim);
  kernel.flops = chunked ? 6.0 * cells + 2.0 * tiles : 7.0 * cells;
  return kernel;
}

}  // namespace guildhall::bench
