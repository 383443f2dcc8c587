// Softmax over all experts, then the k largest by repeated argmax (k is about 10, experts a few hundred).

#include "kernels.h"
#include "vec_math.h"

namespace guildhall::GUILDHALL_ISA {

namespace {

/** Index of the first element equal to the largest one; p has no NaN, n > 0. */
int64_t argmaxFirst(const float* p, int64_t n) {
  F32x16 best = splat(-1.0f);
  eachVector(n, [&](int64_t i, Mask16 m) { best = max(select(m, load(p + i, m), splat(-1.0f)), best); });
  const F32x16 target = splat(maxLane(best));
  for (int64_t i = 0; i < n; i += kLanes) {
    const Mask16 lanes = firstLanes(n - i);
    const Mask16 hit = lessEqual(target, load(p + i, lanes)) & lanes;
    if (hit != 0) return i + __builtin_ctz(hit);
  }
  return 0;
}

void reportBadRow(std::atomic<int64_t>* badRow, int64_t row) {
  if (badRow == nullptr) return;
  int64_t seen = badRow->load(std::memory_order_relaxed);
  while (row < seen && !badRow->compare_exchange_weak(seen, row, std::memory_order_relaxed)) {
  }
}

void topkOfRow(const SoftmaxTopkArgs& args, int64_t row, float* p) {
  const float* logits = args.logits + row * args.logitStride;
  int32_t* ids = args.ids + row * args.k;
  float* weights = args.weights + row * args.k;
  const float top = maxValue(logits, args.numExperts);
  if (!(top < __builtin_inff()) || !(top > -__builtin_inff())) {
    reportBadRow(args.badRow, row);
    for (int64_t i = 0; i < args.k; ++i) {
      ids[i] = static_cast<int32_t>(i);
      weights[i] = 0.0f;
    }
    return;
  }
  const float total = static_cast<float>(expSum(logits, top, 1.0f, p, args.numExperts));
  eachVector(args.numExperts, [=](int64_t i, Mask16 m) { store(p + i, div(load(p + i, m), splat(total)), m); });
  float chosen = 0.0f;
  for (int64_t i = 0; i < args.k; ++i) {
    const int64_t best = argmaxFirst(p, args.numExperts);
    ids[i] = static_cast<int32_t>(best);
    weights[i] = p[best];
    chosen += p[best];
    p[best] = -1.0f;
  }
  if (!args.renormalize) return;
  for (int64_t i = 0; i < args.k; ++i) weights[i] /= chosen;
}

}  // namespace

void softmaxTopk(ParallelFor& par, const SoftmaxTopkArgs& args) {
  const int64_t stride = roundUp(args.numExperts, kLanes);
  par.run(
      args.rows,
      [&](int64_t begin, int64_t end, int thread) {
        for (int64_t r = begin; r < end; ++r) topkOfRow(args, r, args.scratch + thread * stride);
      },
      4);
}

}  // namespace guildhall::GUILDHALL_ISA
