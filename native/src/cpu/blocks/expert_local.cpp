#include "expert_local.h"

#include <algorithm>
#include <stdexcept>

namespace guildhall {

namespace {

/** The step's rows as dispatched, prepared for the experts. */
MatmulInput dispatchedRows(CpuContext& cpu, KernelFamily family, StepBuffers& step) {
  const StepBuffersOptions& o = step.options();
  const int64_t tokens = step.numTokens();
  const float* x = step.normed();
  // To round to bf16 twice is to round once: where the kernel reads bf16 the rows need not be widened first.
  const bool readsBf16 = family == KernelFamily::kBf16Dot || family == KernelFamily::kFp8Dot;
  if (o.rowFormat != RowFormat::kF32 && !readsBf16) {
    float* const wide = cpu.arena.take<float>(tokens * o.hidden);
    cpu.pool.run(
        tokens,
        [&](int64_t begin, int64_t end, int) {
          for (int64_t t = begin; t < end; ++t) {
            cpu.rows.widen(step.rows() + t * step.rowBytes(), o.rowFormat, wide + t * o.hidden, o.hidden);
          }
        },
        16);
    x = wide;
  }
  return prepareInput(cpu.matmul, family, x, o.hidden, tokens, o.hidden, cpu.arena, cpu.pool);
}

/** Outputs of one step's experts and what combine needs to add them up. */
struct Outputs {
  const ExpertGroups* entries = nullptr;
  /** f32 [entries][hidden], in order of places. */
  const float* rows = nullptr;
  /** f32 [T][hidden] and its factors [T]; null without a shared expert. */
  const float* shared = nullptr;
  const float* factors = nullptr;
};

/** Adds everything to hidden, token by token, experts in ascending order. */
void addUp(CpuContext& cpu, StepBuffers& step, const Outputs& outputs) {
  const StepBuffersOptions& o = step.options();
  const ExpertGroups& entries = *outputs.entries;
  // Places come in order of experts, so each token's list is in that order too.
  auto** const rows = cpu.arena.take<const float*>(entries.numEntries);
  float* const weights = cpu.arena.take<float>(entries.numEntries);
  auto* const filled = cpu.arena.take<int32_t>(step.numTokens());
  std::fill_n(filled, step.numTokens(), 0);
  for (int64_t place = 0; place < entries.numEntries; ++place) {
    const int32_t token = entries.rowIndex[place];
    const int64_t at = token * o.topK + filled[token]++;
    rows[at] = outputs.rows + place * o.hidden;
    weights[at] = step.topkWeights()[entries.order[place]];
  }
  cpu.pool.run(
      step.numTokens(),
      [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
          CombineRowArgs args;
          args.hidden = step.hidden() + t * o.hidden;
          args.rows = rows + t * o.topK;
          args.weights = weights + t * o.topK;
          args.count = o.topK;
          args.format = o.rowFormat;
          args.shared = outputs.shared == nullptr ? nullptr : outputs.shared + t * o.hidden;
          args.factor = outputs.shared == nullptr ? 0.0f : outputs.factors[t];
          args.n = o.hidden;
          cpu.rows.combine(args);
        }
      },
      2);
}

}  // namespace

void runLocalExperts(CpuContext& cpu, const ExpertShardOptions& options, const ExpertTable& table, int64_t layer,
                     StepBuffers& step, CpuSharedExpert* shared) {
  const int64_t tokens = step.numTokens();
  const int64_t topK = step.options().topK;
  ExpertGroups entries = ExpertGroups::make(cpu.arena, table, options, layer, step.topkIds(), tokens * topK,
                                            [topK](int64_t entry) { return entry / topK; });
  if (!entries.notHeld.empty()) {
    throw std::runtime_error("expert " + std::to_string(entries.notHeld.front()) + " of layer " +
                             std::to_string(layer) + " is not held");
  }
  float* const rows = cpu.arena.take<float>(entries.numEntries * options.hidden);
  entries.bind(dispatchedRows(cpu, cpu.family(options.format), step), rows, options.hidden);
  Outputs outputs{&entries, rows, nullptr, nullptr};
  std::vector<MatmulJob> beside;
  if (shared != nullptr) {
    float* const out = cpu.arena.take<float>(tokens * options.hidden);
    float* const factors = cpu.arena.take<float>(tokens);
    entries.groups.push_back(shared->group(step, out));
    beside.push_back(shared->gateJob(step, factors));
    outputs.shared = out;
    outputs.factors = factors;
  }
  runFfn(cpu, entries.groups, beside);
  if (shared != nullptr) {
    float* const factors = beside.front().y;
    cpu.ops.sigmoid(factors, factors, tokens);
  }
  addUp(cpu, step, outputs);
}

}  // namespace guildhall
