// hidden += sum over experts, ascending by number, of gate weight x row, then the shared expert's output. The order is
// the expert's number, not the order of probabilities or arrival, so that placement cannot change a bit.

#include <algorithm>

#include "blocks.h"
#include "guildhall/check.h"

namespace guildhall {

namespace {

/** Adds the expert rows of token t to acc, which starts at zero. `order` has room for topK. */
void sumExperts(const CpuContext& cpu, const StepBuffers& step, int64_t t, int64_t* order, float* acc) {
  const StepBuffersOptions& o = step.options();
  const int32_t* const ids = step.topkIds();
  for (int64_t k = 0; k < o.topK; ++k) order[k] = t * o.topK + k;
  std::sort(order, order + o.topK, [&](int64_t a, int64_t b) { return ids[a] < ids[b]; });
  for (int64_t k = 0; k < o.topK; ++k) {
    const auto state = step.slotState(order[k]);
    if (state == StepBuffers::SlotState::kCovered) continue;
    const float weight = state == StepBuffers::SlotState::kSum ? 1.0f : step.topkWeights()[order[k]];
    cpu.rows.addWeighted(acc, step.expertRow(order[k]), o.rowFormat, weight, o.hidden);
  }
}

}  // namespace

void checkCombine(const StepBuffers& step) {
  if (!step.gated()) failRange("step", "no gate has run on this batch");
  if (step.missing() > 0) failRange("step", std::to_string(step.missing()) + " expert rows are missing");
}

void combineOnCpu(CpuContext& cpu, StepBuffers& step) {
  const StepBuffersOptions& o = step.options();
  const int threads = cpu.pool.threads();
  float* const sums = cpu.arena.take<float>(threads * o.hidden);
  int64_t* const orders = cpu.arena.take<int64_t>(threads * o.topK);
  cpu.pool.run(
      step.numTokens(),
      [&](int64_t begin, int64_t end, int thread) {
        float* const sum = sums + thread * o.hidden;
        for (int64_t t = begin; t < end; ++t) {
          std::fill_n(sum, o.hidden, 0.0f);
          sumExperts(cpu, step, t, orders + thread * o.topK, sum);
          const float* const shared = step.shared() + t * o.hidden;
          float* const hidden = step.hidden() + t * o.hidden;
          if (step.sharedPresent()) {
            for (int64_t i = 0; i < o.hidden; ++i) hidden[i] += sum[i] + shared[i];
          } else {
            for (int64_t i = 0; i < o.hidden; ++i) hidden[i] += sum[i];
          }
        }
      },
      4);
}

}  // namespace guildhall
