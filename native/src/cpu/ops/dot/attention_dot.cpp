// Paged attention by pairwise bf16 dot products over kDot pages. Queries, scaled by log2(e) too, and unnormalised
// weights are rounded to bf16; scores, sums and outputs are f32. Compiled with AVX-512 BF16 and VBMI only.

#include "attention_dot.h"

#include "attention_block.h"
#include "dot_tile.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

constexpr float kLog2E = 1.44269504088896341f;

/** 2^x for x <= 127, about 1 ulp; 0 far below, NaN for NaN. Polynomial of Cephes' exp2f on [-1/2, 1/2]. */
GH_INLINE F32x16 exp2(F32x16 x) {
  x = max(splat(-200.0f), x);
  const __m512 n = _mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const F32x16 r = sub(x, {n});
  F32x16 p = splat(1.535336188319500e-4f);
  p = fma(p, r, splat(1.339887440266574e-3f));
  p = fma(p, r, splat(9.618437357674640e-3f));
  p = fma(p, r, splat(5.550332471162809e-2f));
  p = fma(p, r, splat(2.402264791363012e-1f));
  p = fma(p, r, splat(6.931472028550421e-1f));
  p = fma(p, r, splat(1.0f));
  return {_mm512_scalef_ps(p.v, n)};
}

/** The page that holds a token, as the kernel reads it. */
struct PageView {
  const uint8_t* keys;
  const uint8_t* values;
  /** fp8: 64 factors of K, then 64 of V. */
  const float* scales;
};

template <typename Units>
class DotPages {
 public:
  DotPages(const AttentionArgs& args, const QueryBlock& block, const Buffers& buffers, int64_t paddedDim)
      : args_(args),
        block_(block),
        buf_(buffers),
        query_(reinterpret_cast<Bf16*>(buffers.query)),
        dim_(args.kv.headDim),
        pairs_((args.kv.headDim + 1) / 2),
        paddedDim_(paddedDim) {}

  static GH_INLINE F32x16 weight(F32x16 x) { return exp2(x); }

  /** bf16(query * (scale * log2 e)), [count][2 * pairs], a zero after an odd D. */
  void loadQueries() {
    const F32x16 scale = splat(args_.scale * kLog2E);
    for (int64_t m = 0; m < block_.count(); ++m) {
      const float* q = args_.q + (block_.firstRow + m / block_.heads) * args_.qRowStride +
                       (block_.firstHead + m % block_.heads) * args_.qHeadStride;
      Bf16* to = query_ + m * 2 * pairs_;
      to[2 * pairs_ - 1] = 0;
      eachVector(dim_, [=](int64_t i, Mask16 lanes) { storeBf16(to + i, mul(load(q + i, lanes), scale), lanes); });
    }
  }

  void runPage(int64_t token, const Partial& to, int64_t nextToken) {
    const int64_t first = firstSeeing(block_, token);
    const PageView page = locate(token);
    // A block of few vectors waits for memory: most of the values come while scores are computed, the rest during the
    // softmax, the next keys while the values are multiplied.
    const bool fetch = block_.count() - first <= 2 * kDotRows;
    const uint8_t* const nextKeys = fetch && nextToken >= 0 ? locate(nextToken).keys : nullptr;
    scorePage(token, first, page, fetch ? page.values : nullptr);
    const uint8_t* rest = page.values + 2 * fetchedPairs() * Units::kBytes;
    const int64_t restBytes = paddedDim_ / kKvUnitLanes * kPanelBytes - 2 * fetchedPairs() * Units::kBytes;
    const int64_t slice = fetch ? restBytes / (block_.count() - first) : 0;
    for (int64_t m = first; m < block_.count(); ++m, rest += slice) {
      for (int64_t i = 0; i < slice; i += 64) prefetch(rest + i);
      softmaxRow(m, token, to, page);
    }
    weighPage(token, first, page, to, nextKeys);
  }

 private:
  static constexpr int64_t kPanelBytes = kPageTokens / 2 * Units::kBytes;

  /** Units of values that each half of a page's scores fetches. */
  int64_t fetchedPairs() const { return pairs_ * 3 / 4; }

  PageView locate(int64_t token) const {
    const KvView& kv = args_.kv;
    const int64_t page = args_.batch.pageTable[block_.seq * args_.batch.maxPages + token / kPageTokens];
    return {kv.keys(page, block_.kvHead), kv.values(page, block_.kvHead), kv.scales(page, block_.kvHead)};
  }

  /** Weights of a vector: bf16 in place of its scores. */
  Bf16* weights(int64_t m) const { return reinterpret_cast<Bf16*>(buf_.scores + m * kPageTokens); }

  /** scores[m][token] for the halves of the page that somebody sees. */
  void scorePage(int64_t token, int64_t first, const PageView& page, const uint8_t* ahead) {
    const int64_t halfBytes = pairs_ * Units::kBytes;
    const int64_t most = block_.mostVisible() - token;
    for (int64_t half = 0; half < 2 && half * kKvUnitLanes < most; ++half) {
      const F32x16 scales[2] = {keyScale(page, 2 * half), keyScale(page, 2 * half + 1)};
      eachTile(block_.count() - first, [&](int64_t row, auto rows) {
        constexpr int kRows = decltype(rows)::value;
        const int64_t m = first + row;
        const uint8_t* const fetch =
            ahead == nullptr || row > 0 ? nullptr : ahead + half * fetchedPairs() * Units::kBytes;
        const DotColumn<Units> column{units_, query_ + m * 2 * pairs_, 2 * pairs_, page.keys + half * halfBytes, fetch,
                                      fetchedPairs()};
        __m512 acc[kRows][2];
        for (int i = 0; i < kRows; ++i) acc[i][0] = acc[i][1] = _mm512_setzero_ps();
        accumulate<kRows>(acc, column, pairs_);
        float* s = buf_.scores + m * kPageTokens + half * kKvUnitLanes;
        for (int i = 0; i < kRows; ++i, s += kPageTokens) {
          store(s, scaled({acc[i][0]}, scales[0]));
          store(s + kLanes, scaled({acc[i][1]}, scales[1]));
        }
      });
    }
  }

  static constexpr bool kScaled = std::is_same_v<Units, Fp8Units>;
  static F32x16 keyScale(const PageView& page, int64_t vector) {
    return kScaled ? load(page.scales + vector * kLanes) : zero();
  }
  static GH_INLINE F32x16 scaled(F32x16 x, F32x16 scale) { return kScaled ? mul(x, scale) : x; }

  /** Scores become bf16 weights 2^(score - new maximum), 0 where invisible; maximum, correction and sum move on. */
  void softmaxRow(int64_t m, int64_t token, const Partial& to, const PageView& page) {
    const float* s = buf_.scores + m * kPageTokens;
    const int64_t visible = block_.visible(m) - token;
    const F32x16 lowest = splat(-__builtin_inff());
    F32x16 x[4];
    for (int v = 0; v < 4; ++v) x[v] = select(firstLanes(visible - v * kLanes), load(s + v * kLanes), lowest);
    const float top = maxFloat(maxLane(max(max(x[0], x[1]), max(x[2], x[3]))), to.max[m]);
    const F32x16 correction = exp2(splat(to.max[m] - top));
    const F32x16 topV = splat(top);
    for (int v = 0; v < 4; ++v) x[v] = exp2(sub(x[v], topV));
    const float total = kScaled ? storeScaled(x, page, visible, weights(m)) : storeRounded(x, weights(m));
    buf_.small[kQueryBlock + m] = firstLane(correction);
    to.max[m] = top;
    to.sum[m] = __builtin_fmaf(to.sum[m], buf_.small[kQueryBlock + m], total);
  }

  /** Rounds the weights to bf16 and returns the sum of what they became. */
  static GH_INLINE float storeRounded(const F32x16 (&x)[4], Bf16* out) {
    F32x16 sums[2];
    for (int v = 0; v < 2; ++v) {
      const __m512i packed = packed32(x[2 * v], x[2 * v + 1]);
      _mm512_storeu_si512(out + v * 2 * kLanes, packed);
      const __m512i evens = _mm512_slli_epi32(packed, 16);
      const __m512i odds = _mm512_and_si512(packed, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u)));
      sums[v] = add(F32x16{_mm512_castsi512_ps(evens)}, F32x16{_mm512_castsi512_ps(odds)});
    }
    return sum(add(sums[0], sums[1]));
  }

  /** Weights times the factors of V, rounded to bf16; returns the sum of the weights themselves. */
  static GH_INLINE float storeScaled(const F32x16 (&x)[4], const PageView& page, int64_t visible, Bf16* out) {
    const float* factors = page.scales + kPageTokens;
    F32x16 y[4];
    for (int v = 0; v < 4; ++v) y[v] = mul(x[v], load(factors + v * kLanes, firstLanes(visible - v * kLanes)));
    for (int v = 0; v < 2; ++v) _mm512_storeu_si512(out + v * 2 * kLanes, packed32(y[2 * v], y[2 * v + 1]));
    return sum(add(add(x[0], x[1]), add(x[2], x[3])));
  }

  /** 32 bf16, rounded to nearest even. */
  static GH_INLINE __m512i packed32(F32x16 low, F32x16 high) {
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high.v, low.v));
  }

  /** acc[m] = acc[m] * correction + weights . V, a panel of 32 dimensions after the other. */
  void weighPage(int64_t token, int64_t first, const PageView& page, const Partial& to, const uint8_t* ahead) {
    for (int64_t panel = 0; panel * kKvUnitLanes < dim_; ++panel) {
      eachTile(block_.count() - first, [&](int64_t row, auto rows) {
        constexpr int kRows = decltype(rows)::value;
        const int64_t m = first + row;
        const DotColumn<Units> column{units_, weights(m), 2 * kPageTokens, page.values + panel * kPanelBytes,
                                      ahead == nullptr || row > 0 ? nullptr : ahead + panel * kPanelBytes,
                                      kPageTokens / 2};
        weighTile<kRows>(m, token, column, to.acc + m * paddedDim_ + panel * kKvUnitLanes);
      });
    }
  }

  template <int MR>
  GH_INLINE void weighTile(int64_t m, int64_t token, const DotColumn<Units>& column, float* out) {
    __m512 acc[MR][2];
    for (int i = 0; i < MR; ++i) {
      const F32x16 correction = splat(buf_.small[kQueryBlock + m + i]);
      for (int v = 0; v < 2; ++v) acc[i][v] = mul(load(out + i * paddedDim_ + v * kLanes), correction).v;
    }
    const int64_t common = minInt(kPageTokens, block_.visible(m) - token) / 2;
    accumulate<MR>(acc, column, common);
    if (common == kPageTokens / 2) {
      for (int i = 0; i < MR; ++i) {
        for (int v = 0; v < 2; ++v) store(out + i * paddedDim_ + v * kLanes, F32x16{acc[i][v]});
      }
      return;
    }
    for (int i = 0; i < MR; ++i) {
      __m512 one[1][2] = {{acc[i][0], acc[i][1]}};
      const int64_t visible = minInt(kPageTokens, block_.visible(m + i) - token);
      DotColumn<Units> rest = column;
      rest.a += i * column.aStride;
      accumulatePairs<1, false>(one, rest, common, visible / 2);
      if (visible % 2 != 0) accumulateHalfPair(one, rest, visible / 2);
      for (int v = 0; v < 2; ++v) store(out + i * paddedDim_ + v * kLanes, F32x16{one[0][v]});
    }
  }

  const AttentionArgs& args_;
  const QueryBlock& block_;
  const Buffers& buf_;
  Bf16* query_;
  int64_t dim_;
  int64_t pairs_;
  int64_t paddedDim_;
  Units units_;
};

}  // namespace

void attentionDot(ParallelFor& par, const AttentionArgs& args) {
  if (args.kv.format == KvFormat::kFp8) {
    runAttention<DotPages<Fp8Units>>(par, args);
  } else {
    runAttention<DotPages<Bf16Units>>(par, args);
  }
}

}  // namespace guildhall::GUILDHALL_ISA
