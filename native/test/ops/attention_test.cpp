// Paged attention and KV writes: against f64, and bit for bit whatever instruction set, batch, block, split or thread.

#include "attention_world.h"

using namespace guildhall;
using namespace guildhall::test;

namespace {

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

/** Blocks that keep what they have from round to round, beside short ones and split ones: the bits of single rows. */
void checkRounds(Pages pages) {
  const Heads heads{2, 1, 128};
  const int64_t width = heads.query * heads.dim;
  World world(heads, pages, {5000, 300}, 13);
  const OpsTable& t = *tables(pages).back();
  TestFor one(1), three(3, 1);
  Batch(world, {{0, 0, 5000}, {1, 0, 300}}).write(t, three);
  AttentionPlan plan;
  plan.set(Batch(world, {{1, 200, 300}, {0, 4900, 5000}}).view(), {heads.query, heads.kv, heads.dim}, 1);
  CHECK(plan.numRounds() == 3);
  const Floats many = Batch(world, {{1, 200, 300}, {0, 4900, 5000}}).attend(t, one);
  const Floats few = Batch(world, {{1, 200, 300}, {0, 4900, 5000}}).attend(t, three);
  CHECK_SAME_BITS(few, many, "threads");
  for (const int64_t row : {0, 31, 32, 99}) {
    // A single row is split over the threads.
    const Floats alone = Batch(world, {{0, 4900 + row, 4901 + row}}).attend(t, three);
    CHECK_SAME_BITS(alone, Floats(many.begin() + (100 + row) * width, many.begin() + (101 + row) * width), "one row");
  }
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

/** prepareHeads gives the bits of norm, rotation and kvWrite one after the other. */
void checkPrepareHeads(Pages pages) {
  const Heads heads{6, 2, 40};
  const int64_t half = 12, tokens = 150, width = (heads.query + heads.kv) * heads.dim + heads.kv * heads.dim;
  Random random(77);
  const Floats projected = random.normals((tokens + 1) * width), cos = random.normals((tokens + 1) * half),
               sin = random.normals((tokens + 1) * half), qNorm = random.normals(heads.dim), kNorm = random.normals(heads.dim);
  for (const OpsTable* t : tables(pages)) {
    TestFor par(3, 16);
    World apart(heads, pages, {tokens}, 3), together(heads, pages, {tokens}, 3);
    const int32_t start = 1, count = static_cast<int32_t>(tokens), context = 0;
    const auto batch = [&](World& w) {
      return BatchView{.numSeqs = 1,
                       .rowStart = &start,
                       .rowCount = &count,
                       .contextLen = &context,
                       .pageTable = w.pageTable.data(),
                       .maxPages = w.maxPages};
    };
    Floats a = projected, b = projected;
    const int64_t kAt = heads.query * heads.dim, vAt = kAt + heads.kv * heads.dim;
    const auto separate = [&](float* x, int64_t n, const Floats& weight) {
      t->rmsNorm(par, {.x = x,
                       .xRowStride = width,
                       .xHeadStride = heads.dim,
                       .weight = weight.data(),
                       .eps = 1e-5f,
                       .zeroCentered = true,
                       .out = x,
                       .outRowStride = width,
                       .outHeadStride = heads.dim,
                       .rows = tokens,
                       .heads = n,
                       .dim = heads.dim});
      t->rope(par, {.x = x,
                    .rowStride = width,
                    .headStride = heads.dim,
                    .rows = tokens,
                    .heads = n,
                    .half = half,
                    .cos = cos.data() + half,
                    .sin = sin.data() + half});
    };
    const auto writeOf = [&](World& w, Floats& x) {
      return KvWriteArgs{.batch = batch(w),
                         .kv = w.view(),
                         .k = x.data() + kAt,
                         .kRowStride = width,
                         .v = x.data() + vAt,
                         .vRowStride = width};
    };
    separate(a.data() + width, heads.query, qNorm);
    separate(a.data() + width + kAt, heads.kv, kNorm);
    t->kvWrite(par, writeOf(apart, a));
    t->prepareHeads(par, {.write = writeOf(together, b),
                          .q = b.data(),
                          .qRowStride = width,
                          .qHeadStride = heads.dim,
                          .numHeads = heads.query,
                          .qNorm = qNorm.data(),
                          .kNorm = kNorm.data(),
                          .eps = 1e-5f,
                          .zeroCentered = true,
                          .half = half,
                          .cos = cos.data(),
                          .sin = sin.data(),
                          .k = b.data() + kAt});
    CHECK_SAME_BITS(b, a, "heads");
    CHECK(b != projected);
    CHECK(std::memcmp(together.pool.data(), apart.pool.data(), apart.pool.size() * sizeof(float)) == 0);
  }
}

/** A gate gives the bits of gateMul over the result without one. */
void checkGate(Pages pages) {
  const Heads heads{4, 2, 24};
  World world(heads, pages, {90}, 21);
  TestFor par(2);
  const OpsTable& t = *tables(pages).back();
  const Batch batch(world, {{0, 0, 90}});
  batch.write(t, par);
  const Floats gate = Random(5).normals(92 * (heads.query * heads.dim + 5));
  Floats expected = batch.attend(t, par);
  t.gateMul(par, {.x = expected.data(),
                  .xRowStride = heads.query * heads.dim,
                  .xHeadStride = heads.dim,
                  .gate = gate.data() + heads.query * heads.dim + 5,
                  .gateRowStride = heads.query * heads.dim + 5,
                  .gateHeadStride = heads.dim,
                  .rows = 80,
                  .heads = heads.query,
                  .dim = heads.dim});
  // Rows of the batch start at 1 and are strided by five more floats.
  const Floats got = batch.attend(t, par, gate.data());
  CHECK_SAME_BITS(Floats(got.begin(), got.begin() + 80 * heads.query * heads.dim),
                  Floats(expected.begin(), expected.begin() + 80 * heads.query * heads.dim), "gate");
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
  each("heads prepared at once", checkPrepareHeads);
  each("output gate", checkGate);
  each("a token that is not a number", checkPoisonedToken);
  each("long contexts", checkLongContext);
  each("rounds", checkRounds);
  each("extremes", checkExtremes);
  return 0;
}
