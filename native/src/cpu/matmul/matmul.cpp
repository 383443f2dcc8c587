#include "guildhall/matmul.h"

#include <algorithm>

#include "matmul_isa.h"

namespace guildhall {

namespace {

/** Rows of one task: enough to reuse a group of panels from the cache, few enough to spread a product over threads. */
constexpr int64_t kTaskRows = 256;
/** Widest group of panels that a tile takes; tasks are multiples of it where there are enough panels. */
constexpr int64_t kPanelGroup = 4;
/** Multiply-adds below which waking helpers costs more than it saves. */
constexpr int64_t kSerialWork = 100'000;
constexpr int64_t kTasksPerThread = 8;

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
  MatmulBlock block;
  block.input = job.rowIndex ? job.input : job.input.from(rowBegin);
  block.rowIndex = job.rowIndex ? job.rowIndex + rowBegin : nullptr;
  block.rows = rowEnd - rowBegin;
  block.panels = weight.panel(firstPanel);
  block.numPanels = std::min(plan.panelsPerTask, weight.numPanels() - firstPanel);
  block.k = weight.k();
  block.y = job.y + rowBegin * job.yStride + firstPanel * kPanelCols;
  block.yStride = job.yStride;
  block.numCols = weight.n() - firstPanel * kPanelCols;
  kernels.of(weight.family())(block);
}

void set(MatmulKernels& kernels, KernelFamily family, MatmulFn kernel, PrepareRowFn prepare) {
  kernels.kernels[static_cast<int>(family)] = kernel;
  kernels.prepare[static_cast<int>(family)] = prepare;
}

#define GUILDHALL_SET_PORTABLE(kernels, isa)                                                   \
  set(kernels, KernelFamily::kF32Fma, isa::matmulF32, isa::prepareF32Row);                     \
  set(kernels, KernelFamily::kBf16Fma, isa::matmulBf16Fma, isa::prepareF32Row);                \
  set(kernels, KernelFamily::kFp8Fma, isa::matmulFp8Fma, isa::preparePaddedF32Row);            \
  set(kernels, KernelFamily::kQ8Dot, isa::matmulQ8, isa::prepareQ8Row);                        \
  set(kernels, KernelFamily::kQ4Dot, isa::matmulQ4, isa::prepareQ4Row);

MatmulKernels makeKernels(Isa isa) {
  MatmulKernels kernels;
  GUILDHALL_SET_PORTABLE(kernels, scalar)
#if defined(GUILDHALL_X86)
  if (isa == Isa::Avx2) {
    GUILDHALL_SET_PORTABLE(kernels, avx2)
  }
  if (isa == Isa::Avx512) {
    GUILDHALL_SET_PORTABLE(kernels, avx512)
    if (__builtin_cpu_supports("avx512vnni")) {
      set(kernels, KernelFamily::kQ8Dot, avx512::matmulQ8Vnni, avx512::prepareQ8Row);
      set(kernels, KernelFamily::kQ4Dot, avx512::matmulQ4Vnni, avx512::prepareQ4Row);
    }
    if (bf16DotSupported()) {
      set(kernels, KernelFamily::kBf16Dot, avx512::matmulBf16Dot, avx512::prepareBf16Row);
      set(kernels, KernelFamily::kFp8Dot, avx512::matmulFp8Dot, avx512::preparePaddedBf16Row);
    }
  }
#else
  static_cast<void>(isa);
#endif
  return kernels;
}

#undef GUILDHALL_SET_PORTABLE

}  // namespace

const MatmulKernels& matmulKernels(Isa isa) {
  static const MatmulKernels tables[] = {makeKernels(Isa::Scalar), makeKernels(Isa::Avx2), makeKernels(Isa::Avx512)};
  return tables[static_cast<int>(isa)];
}

bool bf16DotSupported() {
#if defined(GUILDHALL_X86)
  return isaSupported(Isa::Avx512) && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi");
#else
  return false;
#endif
}

MatmulInput prepareInput(const MatmulKernels& kernels, KernelFamily family, const float* x, int64_t stride,
                         int64_t rows, int64_t k, Arena& arena, ParallelFor& par) {
  if (readsF32Rows(family)) return {reinterpret_cast<const uint8_t*>(x), stride * 4};
  const int64_t rowBytes = inputRowBytes(family, k);
  uint8_t* const prepared = arena.take<uint8_t>(rows * rowBytes);
  const PrepareRowFn prepare = kernels.prepareRow(family);
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(k, 1));
  par.run(
      rows,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) prepare(x + r * stride, k, prepared + r * rowBytes);
      },
      grain);
  return {prepared, rowBytes};
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
