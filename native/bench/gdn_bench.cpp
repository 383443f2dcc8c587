// The delta net of the hybrid bench model (12 layers, 8 key heads, 16 value heads, 128 x 128, convolution 4), without
// its matmuls.
//   gdn_bench [threads] [most sequences that decode; 0: prefill only] [isa]

#include <cstring>

#include "bench.h"
#include "guildhall/ops/ops.h"

using namespace guildhall;
using namespace guildhall::bench;

namespace {

constexpr int64_t kLayers = 12, kValueHeads = 16, kDim = 128, kKernel = 4, kHidden = 1024;
constexpr DeltaNetShape kShape = {8, kValueHeads, kDim, kDim};
constexpr int64_t kProjected = kShape.channels() + kValueHeads * kDim + 2 * kValueHeads;
constexpr int64_t kDelta = kValueHeads * kDim * kDim, kConv = (kKernel - 1) * kShape.channels();
constexpr int64_t kSlot = kLayers * (kDelta + kConv);

/** Sequences of equal length over a state pool. */
struct Setup {
  int64_t seqs, rows;
  int32_t mode;
  std::vector<int32_t> rowStart, rowCount, context, slot, modes;
  Floats projected, out, state, weight, head, scratch;

  Setup(int64_t sequences, int64_t rowsEach, int32_t m, int threads) : seqs(sequences), rows(rowsEach), mode(m) {
    for (int64_t i = 0; i < seqs; ++i) {
      rowStart.push_back(static_cast<int32_t>(i * rows));
      rowCount.push_back(static_cast<int32_t>(rows));
      context.push_back(0);
      slot.push_back(static_cast<int32_t>(i));
      modes.push_back(mode);
    }
    projected = numbers(tokens() * kProjected, -1.0f, 1.0f);
    out.resize(static_cast<size_t>(tokens() * kValueHeads * kDim));
    state = numbers(seqs * kSlot, -0.1f, 0.1f);
    weight = numbers(kKernel * kShape.channels(), -0.5f, 0.5f);
    head = numbers(kDim, -1.0f, 1.0f);
    scratch.resize(static_cast<size_t>(deltaNetScratchFloats(kShape, threads)));
  }
  int64_t tokens() const { return seqs * rows; }
  BatchView view() const {
    return {.numSeqs = static_cast<int32_t>(seqs),
            .rowStart = rowStart.data(),
            .rowCount = rowCount.data(),
            .contextLen = context.data(),
            .stateSlot = slot.data(),
            .mode = modes.data()};
  }

  void layer(const OpsTable& t, ThreadPool& pool, int64_t layer) {
    t.deltaNet(pool, {.batch = view(),
                      .shape = kShape,
                      .x = projected.data(),
                      .xRowStride = kProjected,
                      .convWeight = weight.data(),
                      .convKernel = kKernel,
                      .aLog = head.data(),
                      .dtBias = head.data() + kValueHeads,
                      .normWeight = head.data(),
                      .state = state.data() + layer * (kDelta + kConv),
                      .convState = state.data() + layer * (kDelta + kConv) + kDelta,
                      .stateStride = kSlot,
                      .out = out.data(),
                      .outRowStride = kValueHeads * kDim,
                      .scratch = scratch.data()});
  }
  void allLayers(const OpsTable& t, ThreadPool& pool) {
    for (int64_t l = 0; l < kLayers; ++l) layer(t, pool, l);
  }
};

void prefill(const OpsTable& t, ThreadPool& pool, int64_t seqs, int64_t rows, int32_t mode) {
  Setup s(seqs, rows, mode, pool.threads());
  const double total = medianSeconds(9, [&] { s.allLayers(t, pool); });
  char name[96], note[128];
  std::snprintf(name, sizeof name, "%s, %lld x %lld tokens, 12 layers", mode == kModeChunked ? "chunked" : "recurrent",
                static_cast<long long>(seqs), static_cast<long long>(rows));
  const double flop = 12.1e9 * static_cast<double>(seqs * rows) / 512.0;
  std::snprintf(note, sizeof note, "%.0f GFLOP/s, products of the rule only", flop / total * 1e-9);
  line(name, total, mode == kModeChunked ? note : "");
}

void decode(const OpsTable& t, ThreadPool& pool, int64_t seqs) {
  Setup s(seqs, 1, kModeRecurrent, pool.threads());
  const Floats evict(size_t{48} << 20, 1.0f);
  volatile float sink = 0.0f;
  std::vector<double> times;
  for (int run = 0; run < 9; ++run) {
    float x = 0.0f;
    for (size_t i = 0; i < evict.size(); i += 16) x += evict[i];
    sink = sink + x;
    pool.setInCall(true);
    times.push_back(secondsOf([&] { s.allLayers(t, pool); }));
    pool.setInCall(false);
  }
  std::sort(times.begin(), times.end());
  const double bytes = static_cast<double>(2 * seqs * kLayers * (kDelta + kConv)) * 4.0;
  char name[96], note[128];
  std::snprintf(name, sizeof name, "recurrent, %lld sequences, 12 layers", static_cast<long long>(seqs));
  std::snprintf(note, sizeof note, "%.1f GB/s of state read + written", bytes / times[4] * 1e-9);
  line(name, times[4], note);
}

void norms(const OpsTable& t, ThreadPool& pool) {
  const Floats x = numbers(512 * kHidden, -1.0f, 1.0f), w = numbers(kHidden, -1.0f, 1.0f);
  Floats y(x.size());
  for (const int64_t rows : {1, 16, 512}) {
    constexpr int kRepeat = 100;
    pool.setInCall(true);
    const double total = medianSeconds(7, [&] {
      for (int i = 0; i < kRepeat; ++i) {
        t.rmsNorm(pool, {.x = x.data(),
                         .xRowStride = kHidden,
                         .weight = w.data(),
                         .out = y.data(),
                         .outRowStride = kHidden,
                         .rows = rows,
                         .dim = kHidden});
      }
    });
    pool.setInCall(false);
    char name[64], note[64];
    std::snprintf(name, sizeof name, "rmsNorm of %lld x 1024", static_cast<long long>(rows));
    std::snprintf(note, sizeof note, "%.1f GB/s", static_cast<double>(rows * kHidden * 8 * kRepeat) / total * 1e-9);
    line(name, total / kRepeat, note);
  }
}

/** Reads and rewrites an array in place: what the recurrent form can reach at best. */
double updateBandwidth(ThreadPool& pool, Floats& data) {
  const int64_t block = kDim * kDim, blocks = static_cast<int64_t>(data.size()) / block;
  const double seconds = medianSeconds(3, [&] {
    pool.run(
        blocks,
        [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin * block; i < end * block; ++i) data[static_cast<size_t>(i)] *= 1.0001f;
        },
        16);
  });
  return static_cast<double>(data.size()) * 8.0 / seconds;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int64_t most = argc > 2 ? std::atoi(argv[2]) : 32;
  ThreadPool pool(threads);
  Isa isa = bestIsa();
  for (const Isa other : {Isa::Scalar, Isa::Avx2, Isa::Avx512}) {
    if (argc > 3 && std::strcmp(argv[3], isaName(other)) == 0 && isaSupported(other)) isa = other;
  }
  const OpsTable& t = ops(isa);
  std::printf("%s, %d threads\n", isaName(t.isa), threads);
  prefill(t, pool, 1, 512, kModeChunked);
  prefill(t, pool, 8, 64, kModeChunked);
  prefill(t, pool, 1, 64, kModeRecurrent);
  if (most == 0) return 0;
  norms(t, pool);
  Floats big(size_t{100} << 20, 1.0f);
  std::printf("read bandwidth %.1f GB/s, read and rewrite %.1f GB/s\n", readBandwidth(pool) * 1e-9,
              updateBandwidth(pool, big) * 1e-9);
  for (const int64_t seqs : {int64_t{1}, int64_t{4}, most}) decode(t, pool, seqs);
  std::printf("read bandwidth %.1f GB/s, read and rewrite %.1f GB/s\n", readBandwidth(pool) * 1e-9,
              updateBandwidth(pool, big) * 1e-9);
  return 0;
}
