// Times paged attention at the shapes of the bench models and prints each figure beside the read bandwidth of the same run.
//   attention_bench [bf16|fp8|f32] [fma] [decode|prefill] [hybrid|twin] [1t|2t]
// Built with -DGUILDHALL_BENCH=ON. Figures are medians over layers and repetitions.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "guildhall/matmul.h"
#include "guildhall/memory.h"
#include "guildhall/ops/ops.h"
#include "guildhall/thread_pool.h"

using namespace guildhall;

namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

/** GB/s of reading a buffer far larger than the caches. */
double readBandwidth(ThreadPool& pool) {
  static const Buffer memory(int64_t{1} << 30, MemoryKind::kBuffers, nullptr);
  static const bool touched = [] {
    std::memset(memory.as<char>(), 1, static_cast<size_t>(memory.bytes()));
    return true;
  }();
  static_cast<void>(touched);
  [[maybe_unused]] static volatile uint64_t sink;
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) {
    const double start = seconds();
    pool.run(
        memory.bytes() / 8,
        [&](int64_t begin, int64_t end, int) {
          const uint64_t* p = memory.as<uint64_t>();
          uint64_t sum[16] = {};
          for (int64_t n = begin; n < end; n += 16) {
            for (int k = 0; k < 16; ++k) sum[k] += p[n + k];
          }
          uint64_t all = 0;
          for (const uint64_t s : sum) all += s;
          sink = all;
        },
        1 << 17);
    times.push_back(seconds() - start);
  }
  return static_cast<double>(memory.bytes()) / median(times) / 1e9;
}

struct Model {
  const char* name;
  int64_t heads, kvHeads, dim, layers;
};

constexpr Model kHybrid{"hybrid", 16, 2, 256, 4};
constexpr Model kTwin{"twin", 16, 2, 128, 16};

/** `sequences` sequences with `context` tokens in pages and `rows` new ones each, over all layers. */
class Case {
 public:
  Case(const Model& model, KvFormat format, KvKernel kernel, int64_t sequences, int64_t context, int64_t rows)
      : model_(model), layout_{model.layers, model.kvHeads, model.dim, format, kernel}, sequences_(sequences), rows_(rows) {
    const int64_t pages = (context + rows + kPageTokens - 1) / kPageTokens;
    pool_ = Buffer(sequences * pages * layout_.pageBytes(), MemoryKind::kKv, nullptr);
    for (int64_t i = 0; i < sequences; ++i) {
      rowStart_.push_back(static_cast<int32_t>(i * rows));
      rowCount_.push_back(static_cast<int32_t>(rows));
      context_.push_back(static_cast<int32_t>(context));
      for (int64_t p = 0; p < pages; ++p) table_.push_back(static_cast<int32_t>(i + p * sequences));
    }
    batch_ = {.numSeqs = static_cast<int32_t>(sequences),
              .rowStart = rowStart_.data(),
              .rowCount = rowCount_.data(),
              .contextLen = context_.data(),
              .pageTable = table_.data(),
              .maxPages = pages};
    q_.resize(static_cast<size_t>(sequences * rows * model.heads * model.dim));
    for (size_t i = 0; i < q_.size(); ++i) q_[i] = std::sin(static_cast<float>(i % 1000));
    out_.resize(q_.size());
    k_.resize(static_cast<size_t>(sequences * std::max(rows, int64_t{64}) * model.kvHeads * model.dim));
    for (size_t i = 0; i < k_.size(); ++i) k_[i] = std::cos(static_cast<float>(i % 991));
  }

  /** Numbers into every page. */
  void fill(const OpsTable& ops, ThreadPool& pool) {
    const int64_t width = model_.kvHeads * model_.dim;
    const int32_t start = 0, count = kPageTokens;
    for (size_t p = 0; p < table_.size(); ++p) {
      const int32_t context = 0;
      const int32_t page = static_cast<int32_t>(p);
      for (int64_t layer = 0; layer < model_.layers; ++layer) {
        ops.kvWrite(pool, {.batch = {.numSeqs = 1,
                                     .rowStart = &start,
                                     .rowCount = &count,
                                     .contextLen = &context,
                                     .pageTable = &page,
                                     .maxPages = 1},
                           .kv = layout_.view(pool_.as<void>(), layer),
                           .k = k_.data(),
                           .kRowStride = width,
                           .v = k_.data() + (p % 7) * 3,
                           .vRowStride = width - 1});
      }
    }
  }

  /** Median seconds of one layer. */
  double time(const OpsTable& ops, ThreadPool& pool, int repeats) {
    std::vector<double> times;
    for (int i = 0; i < repeats; ++i) {
      for (int64_t layer = 0; layer < model_.layers; ++layer) {
        const double start = seconds();
        pool.setInCall(true);
        plan_.set(batch_, {model_.heads, model_.kvHeads, model_.dim}, pool.threads());
        scratch_.resize(static_cast<size_t>(std::max<int64_t>(plan_.scratchFloats(), static_cast<int64_t>(scratch_.size()))));
        ops.attention(pool, {.batch = batch_,
                             .kv = layout_.view(pool_.as<void>(), layer),
                             .q = q_.data(),
                             .qRowStride = model_.heads * model_.dim,
                             .qHeadStride = model_.dim,
                             .gate = nullptr,
                             .out = out_.data(),
                             .outRowStride = model_.heads * model_.dim,
                             .outHeadStride = model_.dim,
                             .numHeads = model_.heads,
                             .scale = 1.0f / std::sqrt(static_cast<float>(model_.dim)),
                             .plan = &plan_,
                             .scratch = scratch_.data()});
        times.push_back(seconds() - start);
      }
    }
    pool.setInCall(false);
    return median(times);
  }

  /** Bytes of K and V (and factors) that one layer reads, and multiply-adds times two. */
  double bytes() const {
    return static_cast<double>(sequences_ * (context_[0] + rows_)) * static_cast<double>(layout_.layerBytes()) / kPageTokens;
  }
  double flops() const {
    double tokens = 0.0;
    for (int64_t r = 0; r < rows_; ++r) tokens += static_cast<double>(context_[0] + r + 1);
    return 4.0 * tokens * static_cast<double>(sequences_ * model_.heads * model_.dim);
  }

 private:
  Model model_;
  KvLayout layout_;
  int64_t sequences_, rows_;
  Buffer pool_;
  std::vector<int32_t> rowStart_, rowCount_, context_, table_;
  BatchView batch_;
  std::vector<float> q_, out_, k_, scratch_;
  AttentionPlan plan_;
};

/** Words of the command line. */
struct Words {
  std::vector<std::string> all;

  bool has(const std::string& word) const { return std::find(all.begin(), all.end(), word) != all.end(); }
  /** Whether `word` was asked for, or neither it nor its opposite. */
  bool wants(const std::string& word, const std::string& opposite) const { return has(word) || !has(opposite); }
};

}  // namespace

int main(int argc, char** argv) {
  const Words words{{argv + 1, argv + argc}};
  const KvFormat format = words.has("f32") ? KvFormat::kF32 : words.has("fp8") ? KvFormat::kFp8 : KvFormat::kBf16;
  const char* const name = words.has("f32") ? "f32" : words.has("fp8") ? "fp8" : "bf16";
  const bool fma = words.has("fma") || format == KvFormat::kF32 || !bf16DotSupported();
  const KvKernel kernel = fma ? KvKernel::kFma : KvKernel::kDot;
  const OpsTable& table = ops(bestIsa());
  std::printf("kv %s, kernel %s\n", name, fma ? "fma" : "dot");
  std::printf("%-7s %5s %8s %5s %7s | %9s %7s %6s | %7s | %8s\n", "model", "seqs", "context", "rows", "threads", "us/layer",
              "GB/s", "of bw", "bw", "GFLOP/s");
  struct Shape {
    int64_t sequences, context, rows;
  };
  const Shape shapes[] = {{1, 8191, 1}, {16, 8191, 1}, {16, 255, 1}, {1, 0, 512}, {1, 0, 2048}, {1, 8192, 512}};
  for (const int threads : {1, 2}) {
    if (!words.wants(threads == 1 ? "1t" : "2t", threads == 1 ? "2t" : "1t")) continue;
    ThreadPool pool(threads);
    for (const Model& model : {kHybrid, kTwin}) {
      const bool hybrid = model.dim == kHybrid.dim;
      if (!words.wants(hybrid ? "hybrid" : "twin", hybrid ? "twin" : "hybrid")) continue;
      for (const Shape& s : shapes) {
        const bool decode = s.rows == 1;
        if (!words.wants(decode ? "decode" : "prefill", decode ? "prefill" : "decode")) continue;
        Case one(model, format, kernel, s.sequences, s.context, s.rows);
        one.fill(table, pool);
        one.time(table, pool, 1);
        const double before = decode ? readBandwidth(pool) : 0.0;
        const double t = one.time(table, pool, decode ? 5 : 3);
        const double after = decode ? readBandwidth(pool) : 0.0;
        const double rate = one.bytes() / t / 1e9;
        std::printf("%-7s %5ld %8ld %5ld %7d | %9.1f %7.1f %5.0f%% | %3.0f %3.0f | %8.0f\n", model.name, s.sequences,
                    s.context + s.rows, s.rows, threads, t * 1e6, rate, decode ? 200.0 * rate / (before + after) : 0.0, before,
                    after, one.flops() / t / 1e9);
        std::fflush(stdout);
      }
    }
  }
  return 0;
}
