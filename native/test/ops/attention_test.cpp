// Paged attention and KV writes: against f64, and bit for bit whatever instruction set, batch, block, split or thread.

#include <algorithm>
#include <numeric>

#include "check.h"
#include "guildhall/e4m3.h"
#include "guildhall/matmul.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

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

constexpr Pages kF32Pages{KvFormat::kF32, KvKernel::kFma};

bool dotPossible() {
#if defined(GUILDHALL_X86)
  return isaSupported(Isa::Avx512) && bf16DotSupported() && __builtin_cpu_supports("avx512vbmi");
#else
  return false;
#endif
}

/** Kinds of pages that this processor computes with. */
std::vector<Pages> allPages() {
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
std::vector<const OpsTable*> tables(Pages pages) {
  if (pages.kernel == KvKernel::kDot) return {&ops(Isa::Avx512)};
  return test::tables();
}

/** A head's numbers after a round trip through a page. */
Doubles storedHead(KvFormat format, const float* x, int64_t dim) {
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
  Floats attend(const OpsTable& t, ParallelFor& par) const {
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
                      .gate = nullptr,
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

/**
 * Attention in f64 over what the pages hold. For dot pages with the query as it is rounded; the rounding of weights is
 * left to the tolerance.
 */
Doubles reference(const World& w, const Piece& piece) {
  const Heads& h = w.heads;
  const auto seq = static_cast<size_t>(piece.seq);
  const auto stored = [&](const Floats& x, int64_t token, int64_t kvHead) {
    return storedHead(w.pages.format, x.data() + (token * h.kv + kvHead) * h.dim, h.dim);
  };
  const float scale = 1.0f / std::sqrt(static_cast<float>(h.dim));
  const auto scaled = [&](float q) {
    if (w.pages.kernel == KvKernel::kFma) return static_cast<double>(q) / std::sqrt(static_cast<double>(h.dim));
    return static_cast<double>(roundToBf16(q * (scale * 1.44269504088896341f))) * std::log(2.0);
  };
  Doubles out(static_cast<size_t>((piece.to - piece.from) * h.query * h.dim));
  for (int64_t kvHead = 0; kvHead < h.kv; ++kvHead) {
    std::vector<Doubles> keys, values;
    for (int64_t s = 0; s < piece.to; ++s) {
      keys.push_back(stored(w.k[seq], s, kvHead));
      values.push_back(stored(w.v[seq], s, kvHead));
    }
    const int64_t group = h.query / h.kv;
    for (int64_t n = 0; n < (piece.to - piece.from) * group; ++n) {
      const int64_t t = piece.from + n / group, head = kvHead * group + n % group;
      const float* q = w.q[seq].data() + (t * h.query + head) * h.dim;
      Doubles score(static_cast<size_t>(t + 1));
      for (size_t s = 0; s < score.size(); ++s) {
        for (int64_t d = 0; d < h.dim; ++d) score[s] += scaled(q[d]) * keys[s][static_cast<size_t>(d)];
      }
      const double top = *std::max_element(score.begin(), score.end());
      double total = 0.0;
      Doubles sum(static_cast<size_t>(h.dim));
      for (size_t s = 0; s < score.size(); ++s) {
        const double p = std::exp(score[s] - top);
        total += p;
        for (size_t d = 0; d < sum.size(); ++d) sum[d] += p * values[s][d];
      }
      double* to = out.data() + ((t - piece.from) * h.query + head) * h.dim;
      for (size_t d = 0; d < sum.size(); ++d) to[d] = sum[d] / total;
    }
  }
  return out;
}

/** Weights rounded to bf16 have 2^-9 relative errors that do not add up in one direction. */
double bound(Pages pages, int64_t length) { return pages.kernel == KvKernel::kDot ? 0x1.0p-8 : tolerance(length); }

/** Everything written, last `rows` rows of each sequence attended: all variants agree with f64 and with each other. */
void checkWorld(Heads heads, Pages pages, const std::vector<int64_t>& lengths, int64_t rows) {
  World world(heads, pages, lengths, static_cast<uint64_t>(heads.dim * 31 + heads.query));
  std::vector<Piece> all, last;
  for (size_t i = 0; i < lengths.size(); ++i) {
    all.push_back({static_cast<int64_t>(i), 0, lengths[i]});
    last.push_back({static_cast<int64_t>(i), std::max<int64_t>(0, lengths[i] - rows), lengths[i]});
  }
  Floats first;
  for (const OpsTable* t : tables(pages)) {
    for (const int threads : {1, 3}) {
      TestFor par(threads, 1);
      world.clear();
      Batch(world, all).write(*t, par);
      const Floats got = Batch(world, last).attend(*t, par);
      if (first.empty()) first = got;
      CHECK_SAME_BITS(got, first, "attention");
    }
  }
  Doubles exact;
  for (const Piece& p : last) {
    const Doubles one = reference(world, p);
    exact.insert(exact.end(), one.begin(), one.end());
  }
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  checkClose(pages.name(), first, exact, bound(pages, heads.dim + longest));
}

/** Where KvLayout says that element (token, d) of K and V of a head lies, in elements from the head's K and V. */
int64_t keyPlace(Pages pages, int64_t dim, int64_t token, int64_t d) {
  if (pages.kernel == KvKernel::kFma) return d * 64 + token;
  return ((token / 32 * ((dim + 1) / 2) + d / 2) * 32 + token % 32) * 2 + d % 2;
}
int64_t valuePlace(Pages pages, int64_t dim, int64_t token, int64_t d) {
  if (pages.kernel == KvKernel::kFma) return token * dim + d;
  return ((d / 32 * 32 + token / 2) * 32 + d % 32) * 2 + token % 2;
}

void checkPageLayout(Pages pages, int64_t dim) {
  if (pages.format == KvFormat::kFp8) return;
  World world({2, 2, dim}, pages, {70}, 5);
  TestFor par(2, 1);
  Batch(world, {{0, 0, 40}}).write(*tables(pages).back(), par);
  Batch(world, {{0, 40, 70}}).write(*tables(pages).back(), par);
  const bool f32 = pages.format == KvFormat::kF32;
  const auto element = [&](const uint8_t* block, int64_t i) {
    if (f32) return reinterpret_cast<const float*>(block)[i];
    return bf16ToFloat(reinterpret_cast<const Bf16*>(block)[i]);
  };
  int64_t written = 0;
  for (int64_t t = 0; t < 70; ++t) {
    const int64_t page = world.pageTable[static_cast<size_t>(t / 64)];
    for (int64_t h = 0; h < 2; ++h) {
      const size_t source = static_cast<size_t>((t * 2 + h) * dim);
      const Doubles k = storedHead(pages.format, world.k[0].data() + source, dim);
      const Doubles v = storedHead(pages.format, world.v[0].data() + source, dim);
      for (int64_t d = 0; d < dim; ++d) {
        CHECK(element(world.view().keys(page, h), keyPlace(pages, dim, t % 64, d)) == k[static_cast<size_t>(d)]);
        CHECK(element(world.view().values(page, h), valuePlace(pages, dim, t % 64, d)) == v[static_cast<size_t>(d)]);
        written += 2;
      }
      if (pages.kernel == KvKernel::kDot && dim % 2 != 0) ++written;  // the zero after an odd dimension
    }
  }
  int64_t numbers = 0;
  const auto* const bytes = reinterpret_cast<const uint8_t*>(world.pool.data());
  for (size_t i = 0; i < world.pool.size() * sizeof(float) / (f32 ? 4 : 2); ++i)
    numbers += std::isnan(element(bytes, static_cast<int64_t>(i))) ? 0 : 1;
  CHECK(numbers == written);
}

/** A row alone, before later tokens exist (their slots hold NaN), has the bits it has in any batch afterwards. */
void checkBatchInvariance(Heads heads, Pages pages, int64_t length, int64_t step) {
  const OpsTable& t = *tables(pages).back();
  World world(heads, pages, {length, 150, 3}, 9);
  const int64_t width = heads.query * heads.dim;
  TestFor one(1), many(3, 1);
  Batch(world, {{1, 0, 150}, {2, 0, 3}}).write(t, one);
  std::vector<int64_t> rows;
  Floats alone;
  for (int64_t from = 0; from < length; from += step) {
    const int64_t to = std::min(length, from + step);
    for (int64_t r = from; r < to; ++r) Batch(world, {{0, r, r + 1}}).write(t, one);
    const Floats row = Batch(world, {{0, to - 1, to}}).attend(t, one);
    alone.insert(alone.end(), row.begin(), row.end());
    rows.push_back(to - 1);
  }
  const auto pick = [&](const Floats& all, int64_t offset) {
    Floats picked;
    for (const int64_t r : rows)
      picked.insert(picked.end(), all.begin() + (r + offset) * width, all.begin() + (r + offset + 1) * width);
    return picked;
  };
  CHECK_SAME_BITS(pick(Batch(world, {{0, 0, length}}).attend(t, one), 0), alone, "one batch");
  CHECK_SAME_BITS(pick(Batch(world, {{0, 0, length}}).attend(t, many), 0), alone, "threads");
  CHECK_SAME_BITS(pick(Batch(world, {{2, 2, 3}, {0, 0, length}, {1, 100, 150}}).attend(t, many), 1), alone, "among others");
  Floats chunks;
  for (int64_t from = 0; from < length; from += 37) {
    const Floats part = Batch(world, {{1, 149, 150}, {0, from, std::min(length, from + 37)}}).attend(t, many);
    chunks.insert(chunks.end(), part.begin() + width, part.end());
  }
  CHECK_SAME_BITS(pick(chunks, 0), alone, "chunks");
}

/** A token whose K and V are not numbers spoils its own row and later ones, never an earlier row of the same block. */
void checkPoisonedToken(Pages pages) {
  const Heads heads{4, 2, 16};
  const int64_t width = heads.query * heads.dim;
  for (const int64_t poisoned : {1, 40, 64, 79}) {
    for (const OpsTable* t : tables(pages)) {
      TestFor par(1);
      World world(heads, pages, {80}, 12);
      Batch(world, {{0, 0, 80}}).write(*t, par);
      const Floats clean = Batch(world, {{0, 0, 80}}).attend(*t, par);
      std::fill_n(world.k[0].begin() + poisoned * heads.kv * heads.dim, heads.kv * heads.dim, kNan);
      std::fill_n(world.v[0].begin() + poisoned * heads.kv * heads.dim, heads.kv * heads.dim, kNan);
      Batch(world, {{0, 0, 80}}).write(*t, par);
      const Floats spoilt = Batch(world, {{0, 0, 80}}).attend(*t, par);
      CHECK_SAME_BITS(Floats(spoilt.begin(), spoilt.begin() + poisoned * width),
                      Floats(clean.begin(), clean.begin() + poisoned * width), "before the token");
      for (auto x = spoilt.begin() + poisoned * width; x != spoilt.end(); ++x) CHECK(std::isnan(*x));
    }
  }
}

/** Few rows with long contexts take the way that splits the context over threads. */
void checkLongContext(Pages pages) {
  const Heads heads{4, 1, 16};
  World world(heads, pages, {5000, 2100, 700}, 10);
  const OpsTable& t = *tables(pages).back();
  TestFor one(1), five(5, 1);
  Batch(world, {{0, 0, 5000}, {1, 0, 2100}, {2, 0, 700}}).write(t, five);
  const std::vector<Piece> pieces = {{0, 4995, 5000}, {1, 2099, 2100}, {2, 698, 700}};
  const Floats got = Batch(world, pieces).attend(t, one);
  for (const int threads : {2, 3, 5}) {
    TestFor par(threads, 1);
    CHECK_SAME_BITS(Batch(world, pieces).attend(t, par), got, "split over threads");
    for (const Piece& p : pieces) {
      const Floats alone = Batch(world, {p}).attend(t, par);
      CHECK_SAME_BITS(alone, Batch(world, {p}).attend(t, one), "alone");
    }
  }
  Doubles exact;
  for (const Piece& p : pieces) {
    const Doubles part = reference(world, p);
    exact.insert(exact.end(), part.begin(), part.end());
  }
  checkClose("long context", got, exact, bound(pages, 5000));
}

/** Huge scores, and a batch without rows. */
void checkExtremes(Pages pages) {
  const Heads heads{2, 1, 8};
  World world(heads, pages, {100}, 11);
  for (float& x : world.q[0]) x *= 300.0f;
  TestFor par(1);
  Floats first;
  for (const OpsTable* t : tables(pages)) {
    Batch(world, {{0, 0, 100}}).write(*t, par);
    const Floats got = Batch(world, {{0, 0, 100}}).attend(*t, par);
    for (const float x : got) CHECK(std::isfinite(x));
    if (first.empty()) first = got;
    CHECK_SAME_BITS(got, first, "huge scores");
    CHECK(Batch(world, {{0, 5, 5}}).attend(*t, par).empty());
    const Floats withEmpty = Batch(world, {{0, 5, 5}, {0, 98, 100}, {0, 7, 7}}).attend(*t, par);
    CHECK_SAME_BITS(withEmpty, Floats(got.end() - 2 * 16, got.end()), "empty sequences in between");
  }
}

}  // namespace

int main() {
  const std::vector<Pages> kinds = allPages();
  const auto each = [&](const char* name, const std::function<void(Pages)>& body) {
    for (const Pages pages : kinds) runTest((std::string(name) + ": " + pages.name()).c_str(), [&] { body(pages); });
  };
  each("page layout", [](Pages pages) {
    checkPageLayout(pages, 8);
    checkPageLayout(pages, 64);
    checkPageLayout(pages, 33);
  });
  each("against f64", [](Pages pages) {
    for (const int64_t dim : {8, 16, 20, 24, 32, 33, 64, 128, 256}) checkWorld({4, 2, dim}, pages, {1, 63, 64, 65, 130}, 3);
    checkWorld({1, 1, 24}, pages, {1, 200}, 200);
    checkWorld({6, 2, 16}, pages, {90, 17}, 90);
    checkWorld({16, 1, 40}, pages, {70}, 20);
    checkWorld({130, 2, 8}, pages, {66, 5}, 4);
  });
  each("same bits in any batch", [](Pages pages) {
    checkBatchInvariance({4, 2, 24}, pages, 300, 7);
    checkBatchInvariance({3, 1, 16}, pages, 1300, 101);
    checkBatchInvariance({70, 1, 8}, pages, 140, 13);
    checkBatchInvariance({16, 2, 64}, pages, 200, 9);
  });
  each("a token that is not a number", checkPoisonedToken);
  each("long contexts", checkLongContext);
  each("extremes", checkExtremes);
  return 0;
}
