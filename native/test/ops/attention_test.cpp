// Paged attention and KV writes: against f64, and bit for bit whatever instruction set, batch, block, split or thread.

#include <algorithm>
#include <numeric>

#include "check.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Heads {
  int64_t query;
  int64_t kv;
  int64_t dim;
};

/** Sequences with all their tokens' q, k, v, and a pool of shuffled pages that starts as NaN. Two layers; layer 1 is used. */
struct World {
  Heads heads;
  bool bf16;
  std::vector<int64_t> lengths;
  std::vector<Floats> q, k, v;
  std::vector<int32_t> pageTable;
  int64_t maxPages = 0;
  KvLayout layout;
  std::vector<float> pool32;
  std::vector<Bf16> pool16;

  World(Heads h, bool narrow, std::vector<int64_t> tokens, uint64_t seed)
      : heads(h), bf16(narrow), lengths(std::move(tokens)) {
    Random random(seed);
    for (const int64_t n : lengths) {
      q.push_back(random.normals(n * h.query * h.dim, 1.5f));
      k.push_back(random.normals(n * h.kv * h.dim));
      v.push_back(random.normals(n * h.kv * h.dim));
      maxPages = std::max(maxPages, (n + 63) / 64 + 1);
    }
    layout = {.numLayers = 2, .numKvHeads = h.kv, .headDim = h.dim};
    std::vector<int32_t> pages(lengths.size() * static_cast<size_t>(maxPages));
    std::iota(pages.begin(), pages.end(), 0);
    for (size_t i = pages.size(); i > 1; --i)
      std::swap(pages[i - 1], pages[static_cast<size_t>(random.integer(0, static_cast<int64_t>(i) - 1))]);
    pageTable = pages;
    clear();
  }

  void clear() {
    const size_t n = pageTable.size() * static_cast<size_t>(layout.pageElements());
    if (bf16) {
      pool16.assign(n, 0x7fc0);
    } else {
      pool32.assign(n, kNan);
    }
  }

  KvView view() {
    return {.base = bf16 ? static_cast<void*>(pool16.data()) : static_cast<void*>(pool32.data()),
            .bf16 = bf16,
            .pageStride = layout.pageElements(),
            .layerOffset = layout.layerElements(),
            .numKvHeads = heads.kv,
            .headDim = heads.dim};
  }
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
    Floats scratch(static_cast<size_t>(attentionScratchFloats(h.query, h.kv, h.dim, par.threads())), kNan);
    t.attention(par, {.batch = view(),
                      .kv = world_.view(),
                      .q = q.data(),
                      .qRowStride = qStride,
                      .qHeadStride = h.dim,
                      .out = out.data(),
                      .outRowStride = outStride,
                      .outHeadStride = h.dim,
                      .numHeads = h.query,
                      .scale = 1.0f / std::sqrt(static_cast<float>(h.dim)),
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

Doubles reference(const World& w, const Piece& piece) {
  const Heads& h = w.heads;
  const auto stored = [&](float x) { return static_cast<double>(w.bf16 ? roundToBf16(x) : x); };
  Doubles out;
  for (int64_t t = piece.from; t < piece.to; ++t) {
    for (int64_t head = 0; head < h.query; ++head) {
      const int64_t kvHead = head / (h.query / h.kv);
      const float* q = w.q[static_cast<size_t>(piece.seq)].data() + (t * h.query + head) * h.dim;
      const auto at = [&](const std::vector<Floats>& x, int64_t s) {
        return x[static_cast<size_t>(piece.seq)].data() + (s * h.kv + kvHead) * h.dim;
      };
      Doubles score(static_cast<size_t>(t + 1));
      for (int64_t s = 0; s <= t; ++s) {
        for (int64_t d = 0; d < h.dim; ++d)
          score[static_cast<size_t>(s)] += static_cast<double>(q[d]) * stored(at(w.k, s)[d]);
        score[static_cast<size_t>(s)] /= std::sqrt(static_cast<double>(h.dim));
      }
      const double top = *std::max_element(score.begin(), score.end());
      Doubles sum(static_cast<size_t>(h.dim));
      double total = 0.0;
      for (int64_t s = 0; s <= t; ++s) {
        const double p = std::exp(score[static_cast<size_t>(s)] - top);
        total += p;
        for (int64_t d = 0; d < h.dim; ++d) sum[static_cast<size_t>(d)] += p * stored(at(w.v, s)[d]);
      }
      for (const double x : sum) out.push_back(x / total);
    }
  }
  return out;
}

/** Everything written, last `rows` rows of each sequence attended: all variants agree with f64 and with each other. */
void checkWorld(Heads heads, bool bf16, const std::vector<int64_t>& lengths, int64_t rows) {
  World world(heads, bf16, lengths, static_cast<uint64_t>(heads.dim * 31 + heads.query));
  std::vector<Piece> all, last;
  for (size_t i = 0; i < lengths.size(); ++i) {
    all.push_back({static_cast<int64_t>(i), 0, lengths[i]});
    last.push_back({static_cast<int64_t>(i), std::max<int64_t>(0, lengths[i] - rows), lengths[i]});
  }
  Floats first;
  for (const OpsTable* t : tables()) {
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
  checkClose("attention", first, exact, tolerance(heads.dim + longest));
}

void checkPageLayout() {
  const Heads heads{2, 2, 8};
  for (const bool bf16 : {false, true}) {
    World world(heads, bf16, {70}, 5);
    TestFor par(2, 1);
    Batch(world, {{0, 0, 40}}).write(*tables().back(), par);
    Batch(world, {{0, 40, 70}}).write(*tables().back(), par);
    const auto element = [&](int64_t i) {
      return bf16 ? bf16ToFloat(world.pool16[static_cast<size_t>(i)]) : world.pool32[static_cast<size_t>(i)];
    };
    const auto stored = [&](float x) { return bf16 ? roundToBf16(x) : x; };
    int64_t written = 0;
    for (int64_t t = 0; t < 70; ++t) {
      const int64_t page =
          world.pageTable[static_cast<size_t>(t / 64)] * world.layout.pageElements() + world.layout.layerElements();
      for (int64_t h = 0; h < 2; ++h) {
        for (int64_t d = 0; d < 8; ++d) {
          const size_t source = static_cast<size_t>((t * 2 + h) * 8 + d);
          CHECK(element(page + (h * 8 + d) * 64 + t % 64) == stored(world.k[0][source]));
          CHECK(element(page + 2 * 8 * 64 + (h * 64 + t % 64) * 8 + d) == stored(world.v[0][source]));
          written += 2;
        }
      }
    }
    int64_t numbers = 0;
    for (int64_t i = 0; i < world.layout.pageElements() * static_cast<int64_t>(world.pageTable.size()); ++i)
      numbers += std::isnan(element(i)) ? 0 : 1;
    CHECK(numbers == written);
  }
}

/** A row alone, before later tokens exist (their slots hold NaN), has the bits it has in any batch afterwards. */
void checkBatchInvariance(Heads heads, bool bf16, int64_t length, int64_t step) {
  const OpsTable& t = *tables().back();
  World world(heads, bf16, {length, 150, 3}, 9);
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
void checkPoisonedToken() {
  const Heads heads{4, 2, 16};
  const int64_t width = heads.query * heads.dim;
  for (const int64_t poisoned : {1, 40, 64, 79}) {
    for (const OpsTable* t : tables()) {
      TestFor par(1);
      World world(heads, false, {80}, 12);
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
void checkLongContext() {
  const Heads heads{4, 1, 16};
  World world(heads, false, {5000, 2100, 700}, 10);
  const OpsTable& t = *tables().back();
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
  checkClose("long context", got, exact, tolerance(5000));
}

/** Huge scores, and a batch without rows. */
void checkExtremes() {
  const Heads heads{2, 1, 8};
  World world(heads, false, {100}, 11);
  for (float& x : world.q[0]) x *= 300.0f;
  TestFor par(1);
  Floats first;
  for (const OpsTable* t : tables()) {
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
  runTest("page layout", checkPageLayout);
  runTest("against f64", [] {
    for (const bool bf16 : {false, true}) {
      for (const int64_t dim : {8, 16, 20, 24, 32, 64, 128, 256}) checkWorld({4, 2, dim}, bf16, {1, 63, 64, 65, 130}, 3);
      checkWorld({1, 1, 24}, bf16, {1, 200}, 200);
      checkWorld({6, 2, 16}, bf16, {90, 17}, 90);
      checkWorld({16, 1, 40}, bf16, {70}, 20);
      checkWorld({130, 2, 8}, bf16, {66, 5}, 4);
    }
  });
  runTest("same bits in any batch", [] {
    for (const bool bf16 : {false, true}) {
      checkBatchInvariance({4, 2, 24}, bf16, 300, 7);
      checkBatchInvariance({3, 1, 16}, bf16, 1300, 101);
      checkBatchInvariance({70, 1, 8}, bf16, 140, 13);
    }
  });
  runTest("a token that is not a number", checkPoisonedToken);
  runTest("long contexts", checkLongContext);
  runTest("extremes", checkExtremes);
  return 0;
}
