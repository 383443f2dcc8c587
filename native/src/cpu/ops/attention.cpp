// Paged attention by f32 fused multiply-adds: pages of any format, widened where they are not f32.

#include "attention_block.h"
#include "attention_dot.h"
#include "guildhall/e4m3.h"
#include "kernels.h"
#include "tile.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/** Floats between the rows of widened values beyond headDim: rows a power of two apart would collide in the cache. */
constexpr int64_t kValuePad = 16;

class FmaPages {
 public:
  FmaPages(const AttentionArgs& args, const QueryBlock& block, const Buffers& buffers, int64_t paddedDim)
      : args_(args), block_(block), buf_(buffers), dim_(args.kv.headDim), paddedDim_(paddedDim) {}

  static GH_INLINE F32x16 weight(F32x16 x) { return exp(x); }

  /** queries * scale, [count][D]. */
  void loadQueries() {
    const F32x16 scale = splat(args_.scale);
    for (int64_t m = 0; m < block_.count(); ++m) {
      const float* q = args_.q + (block_.firstRow + m / block_.heads) * args_.qRowStride +
                       (block_.firstHead + m % block_.heads) * args_.qHeadStride;
      float* to = buf_.query + m * dim_;
      eachVector(dim_, [=](int64_t i, Mask16 lanes) { store(to + i, mul(load(q + i, lanes), scale), lanes); });
    }
  }

  void runPage(int64_t token, const Partial& to, int64_t) {
    const int64_t first = firstSeeing(block_, token);
    const int64_t most = minInt(kPageTokens, block_.mostVisible() - token);
    const float* keys = nullptr;
    const float* values = nullptr;
    int64_t valueRow = 0;
    locatePage(token, most, keys, values, valueRow);
    const int64_t rows = block_.count() - first;
    const Product scores{buf_.query + first * dim_,         dim_,       1, keys, kPageTokens,
                         buf_.scores + first * kPageTokens, kPageTokens};
    const int64_t dim = dim_;
    multiply<Start::Zero>(scores, rows, roundUp(most, kLanes), [dim](int64_t) { return dim; });
    softmaxPage(token, first, to);
    const Product weighted{
        buf_.scores + first * kPageTokens, kPageTokens, 1, values, valueRow, to.acc + first * paddedDim_, paddedDim_,
        buf_.small + kQueryBlock + first};
    const QueryBlock& block = block_;
    multiply<Start::Scaled>(weighted, rows, dim_, [&block, first, token](int64_t m) {
      return minInt(kPageTokens, block.visible(first + m) - token);
    });
  }

 private:
  /** K and V of the page that holds `token` as floats, widened into the buffers when stored otherwise. */
  void locatePage(int64_t token, int64_t most, const float*& keys, const float*& values, int64_t& valueRow) {
    const KvView& kv = args_.kv;
    const int64_t page = args_.batch.pageTable[block_.seq * args_.batch.maxPages + token / kPageTokens];
    const uint8_t* const k = kv.keys(page, block_.kvHead);
    const uint8_t* const v = kv.values(page, block_.kvHead);
    if (kv.format == KvFormat::kF32) {
      keys = reinterpret_cast<const float*>(k);
      values = reinterpret_cast<const float*>(v);
      valueRow = dim_;
      return;
    }
    keys = buf_.keys;
    values = buf_.values;
    valueRow = dim_ + kValuePad;
    if (kv.format == KvFormat::kBf16) {
      const auto* const values16 = reinterpret_cast<const Bf16*>(v);
      widenInto(reinterpret_cast<const Bf16*>(k), buf_.keys, dim_ * kPageTokens);
      for (int64_t j = 0; j < most; ++j) widenInto(values16 + j * dim_, buf_.values + j * valueRow, dim_);
      return;
    }
    const float* const scales = kv.scales(page, block_.kvHead);
    for (int64_t d = 0; d < dim_; ++d) {
      for (int64_t j = 0; j < kPageTokens; ++j)
        buf_.keys[d * kPageTokens + j] = kE4m3Values[k[d * kPageTokens + j]] * scales[j];
    }
    for (int64_t j = 0; j < most; ++j) {
      const float scale = scales[kPageTokens + j];
      for (int64_t d = 0; d < dim_; ++d) buf_.values[j * valueRow + d] = kE4m3Values[v[j * dim_ + d]] * scale;
    }
  }

  static void widenInto(const Bf16* from, float* to, int64_t n) {
    eachVector(n, [=](int64_t i, Mask16 m) { store(to + i, loadBf16(from + i, m), m); });
  }

  /** Scores become exp(score - new maximum), invisible tokens 0; sums move on; corrections go to small[kQueryBlock + m]. */
  void softmaxPage(int64_t token, int64_t first, const Partial& to) {
    float* pageMax = buf_.small;
    float* correction = buf_.small + kQueryBlock;
    const int64_t count = block_.count();
    for (int64_t m = first; m < count; ++m)
      pageMax[m] = maskAndMax(buf_.scores + m * kPageTokens, block_.visible(m) - token);
    eachVector(count - first, [&](int64_t i, Mask16 lanes) {
      const F32x16 old = load(to.max + first + i, lanes);
      const F32x16 top = max(load(pageMax + first + i, lanes), old);
      store(correction + first + i, exp(sub(old, top)), lanes);
      store(to.max + first + i, top, lanes);
    });
    for (int64_t m = first; m < count; ++m) {
      float* s = buf_.scores + m * kPageTokens;
      const F32x16 top = splat(to.max[m]);
      F32x16 e[4];
      for (int v = 0; v < 4; ++v) {
        e[v] = exp(sub(load(s + v * kLanes), top));
        store(s + v * kLanes, e[v]);
      }
      const float total = sum(add(add(e[0], e[1]), add(e[2], e[3])));
      to.sum[m] = __builtin_fmaf(to.sum[m], correction[m], total);
    }
  }

  /** Scores of tokens at and past `visible` become -infinity; returns the largest of the rest. */
  static float maskAndMax(float* s, int64_t visible) {
    const F32x16 lowest = splat(-__builtin_inff());
    F32x16 top = lowest;
    for (int v = 0; v < 4; ++v) {
      const F32x16 masked = select(firstLanes(visible - v * kLanes), load(s + v * kLanes), lowest);
      store(s + v * kLanes, masked);
      top = max(masked, top);
    }
    return maxLane(top);
  }

  const AttentionArgs& args_;
  const QueryBlock& block_;
  const Buffers& buf_;
  int64_t dim_;
  int64_t paddedDim_;
};

}  // namespace

void attention(ParallelFor& par, const AttentionArgs& args) {
  if (args.kv.kernel == KvKernel::kDot) {
    attentionDot(par, args);
  } else {
    runAttention<FmaPages>(par, args);
  }
}

}  // namespace guildhall::GUILDHALL_ISA
