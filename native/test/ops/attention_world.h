#pragma once

// Sequences in pages, and batches of their rows, for the tests of attention.

#include <algorithm>
#include <numeric>

#include "check.h"
#include "guildhall/e4m3.h"
#include "guildhall/matmul.h"

namespace guildhall::test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Heads {
  int64_t query;
  int64_t kv;
  int64_t dim;
};

/** What a pool holds and how it is multiplied. */
struct Pages {
  KvFormat format;
  KvKernel kernel;

  const char* name() const {
    if (kernel == KvKernel::kDot) return format == KvFormat::kBf16 ? "bf16 dot" : "fp8 dot";
    return format == KvFormat::kF32 ? "f32" : format == KvFormat::kBf16 ? "bf16" : "fp8";
  }
};

inline constexpr Pages kF32Pages{KvFormat::kF32, KvKernel::kFma};

inline bool dotPossible() {
#if defined(GUILDHALL_X86)
  return isaSupported(Isa::Avx512) && bf16DotSupported() && __builtin_cpu_supports("avx512vbmi");
#else
  return false;
#endif
}

/** Kinds of pages that this processor computes with. */
inline std::vector<Pages> allPages() {
  std::vector<Pages> out = {kF32Pages, {KvFormat::kBf16, KvKernel::kFma}, {KvFormat::kFp8, KvKernel::kFma}};
  if (dotPossible()) {
    out.push_back({KvFormat::kBf16, KvKernel::kDot});
    out.push_back({KvFormat::kFp8, KvKernel::kDot});
  } else {
    std::printf("skipped: this processor lacks avx512bf16 or avx512vbmi\n");
  }
  return out;
}

/** Variants that compute with a kind of pages. */
inline std::vector<const OpsTable*> tables(Pages pages) {
  if (pages.kernel == KvKernel::kDot) return {&ops(Isa::Avx512)};
  return test::tables();
}

/** A head's numbers after a round trip through a page. */
inline Doubles storedHead(KvFormat format, const float* x, int64_t dim) {
  float top = 0.0f;
  for (int64_t d = 0; d < dim; ++d) top = std::max(top, std::abs(x[d]));
  Doubles out;
  for (int64_t d = 0; d < dim; ++d) {
    if (format == KvFormat::kF32) {
      out.push_back(x[d]);
    } else if (format == KvFormat::kBf16) {
      out.push_back(roundToBf16(x[d]));
    } else {
      out.push_back(static_cast<double>(kE4m3Values[floatToE4m3(x[d] * (448.0f / top))]) * (top / 448.0f));
    }
  }
  return out;
}

/** Sequences with all their tokens' q, k, v, and a pool of shuffled pages that starts as NaN. Two layers; layer 1 is used. */
struct World {
  Heads heads;
  Pages pages;
  std::vector<int64_t> lengths;
  std::vector<Floats> q, k, v;
  std::vector<int32_t> pageTable;
  int64_t maxPages = 0;
  KvLayout layout;
  std::vector<float> pool;

  World(Heads h, Pages kind, std::vector<int64_t> tokens, uint64_t seed)
      : heads(h), pages(kind), lengths(std::move(tokens)) {
    Random random(seed);
    for (const int64_t n : lengths) {
      q.push_back(random.normals(n * h.query * h.dim, 1.5f));
      k.push_back(random.normals(n * h.kv * h.dim));
      v.push_back(random.normals(n * h.kv * h.dim));
      maxPages = std::max(maxPages, (n + 63) / 64 + 1);
    }
    layout = {2, h.kv, h.dim, kind.format, kind.kernel};
    std::vector<int32_t> order(lengths.size() * static_cast<size_t>(maxPages));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<size_t>(random.integer(0, static_cast<int64_t>(i) - 1))]);
    pageTable = order;
    clear();
  }

  /** All bits set is NaN in every format. */
  void clear() {
    const size_t bytes = pageTable.size() * static_cast<size_t>(layout.pageBytes());
    pool.assign(bytes / sizeof(float), 0.0f);
    std::memset(pool.data(), 0xff, bytes);
  }

  KvView view() { return layout.view(pool.data(), 1); }
};

/** Rows [from, to) of some sequences, as one batch over buffers of its own with gaps between sequences. */
struct Piece {
  int64_t seq;
  int64_t from;
  int64_t to;
};

class Batch {
 public:
  Batch(World& world, std::vector<Piece> pieces) : world_(world), pieces_(std::move(pieces)) {
    for (const Piece& p : pieces_) {
      rowStart_.push_back(static_cast<int32_t>(rows_ + 1));
      rowCount_.push_back(static_cast<int32_t>(p.to - p.from));
      context_.push_back(static_cast<int32_t>(p.from));
      const auto* table = world.pageTable.data() + p.seq * world.maxPages;
      pages_.insert(pages_.end(), table, table + world.maxPages);
      rows_ += p.to - p.from + 2;
    }
  }

  BatchView view() const {
    return {.numSeqs = static_cast<int32_t>(pieces_.size()),
            .rowStart = rowStart_.data(),
            .rowCount = rowCount_.data(),
            .contextLen = context_.data(),
            .pageTable = pages_.data(),
            .maxPages = world_.maxPages};
  }

  void write(const OpsTable& t, ParallelFor& par) const {
    const int64_t width = world_.heads.kv * world_.heads.dim;
    const Floats k = gather(world_.k, width, width + 3), v = gather(world_.v, width, width + 1);
    t.kvWrite(par, {.batch = view(),
                    .kv = world_.view(),
                    .k = k.data(),
                    .kRowStride = width + 3,
                    .v = v.data(),
                    .vRowStride = width + 1});
  }

  /** Attention output of each piece's rows, one after the other. */
  Floats attend(const OpsTable& t, ParallelFor& par, const float* gate = nullptr) const {
    const Heads& h = world_.heads;
    const int64_t width = h.query * h.dim, qStride = width + 5, outStride = width + 2;
    const Floats q = gather(world_.q, width, qStride);
    Floats out(static_cast<size_t>((rows_ + 1) * outStride), -7.0f);
    AttentionPlan plan;
    plan.set(view(), {h.query, h.kv, h.dim}, par.threads());
    Floats scratch(static_cast<size_t>(plan.scratchFloats()), kNan);
    t.attention(par, {.batch = view(),
                      .kv = world_.view(),
                      .q = q.data(),
                      .qRowStride = qStride,
                      .qHeadStride = h.dim,
                      .gate = gate,
                      .out = out.data(),
                      .outRowStride = outStride,
                      .outHeadStride = h.dim,
                      .numHeads = h.query,
                      .scale = 1.0f / std::sqrt(static_cast<float>(h.dim)),
                      .plan = &plan,
                      .scratch = scratch.data()});
    Floats result;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      for (int64_t r = 0; r < rowCount_[i]; ++r) {
        const float* row = out.data() + (rowStart_[i] + r) * outStride;
        result.insert(result.end(), row, row + width);
        CHECK(row[width] == -7.0f);
      }
    }
    return result;
  }

 private:
  Floats gather(const std::vector<Floats>& from, int64_t width, int64_t stride) const {
    Floats rows(static_cast<size_t>((rows_ + 1) * stride), kNan);
    for (size_t i = 0; i < pieces_.size(); ++i) {
      const Floats& source = from[static_cast<size_t>(pieces_[i].seq)];
      for (int64_t r = 0; r < rowCount_[i]; ++r) {
        std::copy_n(source.begin() + (pieces_[i].from + r) * width, width, rows.begin() + (rowStart_[i] + r) * stride);
      }
    }
    return rows;
  }

  World& world_;
  std::vector<Piece> pieces_;
  std::vector<int32_t> rowStart_, rowCount_, context_, pages_;
  int64_t rows_ = 0;
};

}  // namespace guildhall::test
