#include "guildhall/matmul.h"

#include <algorithm>

#include "guildhall/bf16.h"
#include "matmul_isa.h"

namespace guildhall {

namespace {

/** Rows of one task: enough to reuse a group of panels from the L2 cache, few enough to keep their x there. */
constexpr int64_t kTaskRows = 96;
/** Widest group of panels that a tile takes; tasks are multiples of it where there are enough panels. */
constexpr int64_t kPanelGroup = 8;
/** Multiply-adds below which waking helpers costs more than it saves. */
constexpr int64_t kSerialWork = 200'000;
constexpr int64_t kTasksPerThread = 4;

struct Plan {
  int64_t rowBlocks = 0;
  int64_t panelsPerTask = 0;
  int64_t panelBlocks = 0;
  int64_t firstTask = 0;

  int64_t tasks() const { return rowBlocks * panelBlocks; }
};

int64_t workOf(const MatmulJob& job) { return job.rows * job.weight->n() * job.weight->k(); }

Plan planJob(const MatmulJob& job, int64_t wantedTasks, int64_t firstTask) {
  Plan plan;
  plan.firstTask = firstTask;
  const int64_t panels = job.weight->numPanels();
  plan.rowBlocks = (job.rows + kTaskRows - 1) / kTaskRows;
  const int64_t blocks = std::max<int64_t>(1, wantedTasks / std::max<int64_t>(1, plan.rowBlocks));
  plan.panelsPerTask = (panels + blocks - 1) / blocks;
  if (plan.panelsPerTask > kPanelGroup)
    plan.panelsPerTask = (plan.panelsPerTask + kPanelGroup - 1) / kPanelGroup * kPanelGroup;
  plan.panelBlocks = (panels + plan.panelsPerTask - 1) / plan.panelsPerTask;
  return plan;
}

/** Row blocks of one panel block are neighbours, so that a thread that takes several reuses the panels. */
void runTask(const MatmulKernels& kernels, const MatmulJob& job, const Plan& plan, int64_t task) {
  const int64_t rowBlock = task % plan.rowBlocks;
  const int64_t firstPanel = task / plan.rowBlocks * plan.panelsPerTask;
  const int64_t rowBegin = job.rows * rowBlock / plan.rowBlocks;
  const int64_t rowEnd = job.rows * (rowBlock + 1) / plan.rowBlocks;
  const PackedLinear& weight = *job.weight;
  const int64_t xBytes = weight.family() == KernelFamily::kBf16Dot ? 2 : 4;
  MatmulBlock block;
  block.x = static_cast<const char*>(job.input.x) + rowBegin * job.input.stride * xBytes;
  block.xStride = job.input.stride;
  block.rows = rowEnd - rowBegin;
  block.panels = weight.panel(firstPanel);
  block.numPanels = std::min(plan.panelsPerTask, weight.numPanels() - firstPanel);
  block.k = weight.k();
  block.y = job.y + rowBegin * job.yStride + firstPanel * kPanelCols;
  block.yStride = job.yStride;
  block.numCols = weight.n() - firstPanel * kPanelCols;
  kernels.of(weight.family())(block);
}

}  // namespace

MatmulFn MatmulKernels::of(KernelFamily family) const {
  return family == KernelFamily::kF32Fma ? f32 : family == KernelFamily::kBf16Fma ? bf16Fma : bf16Dot;
}

MatmulKernels matmulKernels(Isa isa) {
  MatmulKernels kernels{scalar::matmulF32, scalar::matmulBf16Fma, nullptr};
#if defined(GUILDHALL_X86)
  if (isa == Isa::Avx2) kernels = {avx2::matmulF32, avx2::matmulBf16Fma, nullptr};
  if (isa == Isa::Avx512) kernels = {avx512::matmulF32, avx512::matmulBf16Fma, nullptr};
  if (bf16DotSupported()) kernels.bf16Dot = avx512::matmulBf16Dot;
#else
  static_cast<void>(isa);
#endif
  return kernels;
}

bool bf16DotSupported() {
#if defined(GUILDHALL_X86)
  return isaSupported(Isa::Avx512) && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

MatmulInput prepareInput(KernelFamily family, const float* x, int64_t stride, int64_t rows, int64_t k, Arena& arena,
                         ParallelFor& par) {
  if (family != KernelFamily::kBf16Dot) return {x, stride};
  const int64_t padded = (k + 1) / 2 * 2;
  auto* const rounded = arena.take<Bf16>(rows * padded);
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(k, 1));
  par.run(
      rows,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
          Bf16* const out = rounded + r * padded;
          for (int64_t c = 0; c < k; ++c) out[c] = floatToBf16(x[r * stride + c]);
          if (padded > k) out[k] = 0;
        }
      },
      grain);
  return {rounded, padded};
}

void matmul(const MatmulKernels& kernels, ParallelFor& par, const std::vector<MatmulJob>& jobs) {
  int64_t work = 0;
  for (const MatmulJob& job : jobs) work += workOf(job);
  if (work == 0) return;
  const int64_t wanted = work < kSerialWork ? 1 : par.threads() * kTasksPerThread;
  std::vector<Plan> plans;
  plans.reserve(jobs.size());
  int64_t tasks = 0;
  for (const MatmulJob& job : jobs) {
    const int64_t share = std::max<int64_t>(1, wanted * workOf(job) / work);
    plans.push_back(planJob(job, share, tasks));
    tasks += plans.back().tasks();
  }
  const auto body = [&](int64_t begin, int64_t end, int) {
    auto plan = std::upper_bound(plans.begin(), plans.end(), begin,
                                 [](int64_t task, const Plan& p) { return task < p.firstTask; }) -
                1;
    for (int64_t task = begin; task < end; ++task) {
      while (task >= plan->firstTask + plan->tasks()) ++plan;
      runTask(kernels, jobs[static_cast<size_t>(plan - plans.begin())], *plan, task - plan->firstTask);
    }
  };
  par.run(tasks, body, work < kSerialWork ? tasks : 1);
}

}  // namespace guildhall
