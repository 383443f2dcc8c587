#include "expert_ffn.h"

#include <algorithm>

namespace guildhall {

namespace {

/** Elements of activation below which one thread does them all. */
constexpr int64_t kSerialElements = 8192;

/** What lies between the two products of a group. */
struct Middle {
  int64_t firstRow = 0;
  /** f32 [count][2 * intermediate]. */
  float* gateUp = nullptr;
  /** Rows prepared for `down`. */
  uint8_t* act = nullptr;
};

/** Runs bodies on the calling thread: kernels that are already inside a region. */
class Inline final : public ParallelFor {
 public:
  void run(int64_t n, FunctionRef<void(int64_t, int64_t, int)> body, int64_t) override {
    if (n > 0) body(0, n, 0);
  }
  int threads() const override { return 1; }
};

/** silu(gate) * up of one row, prepared for the down product. `scratch` holds `intermediate` floats. */
void activateRow(CpuContext& cpu, const FfnGroup& group, const Middle& middle, int64_t row, float* scratch) {
  const PackedLinear& down = group.ffn->down;
  const int64_t width = down.k();
  SiluMulArgs act;
  act.gate = middle.gateUp + row * 2 * width;
  act.up = act.gate + width;
  act.out = scratch;
  act.rows = 1;
  act.cols = width;
  Inline here;
  cpu.ops.siluMul(here, act);
  cpu.matmul.prepareRow(down.family())(scratch, width, middle.act + row * inputRowBytes(down.family(), width));
}

void activate(CpuContext& cpu, const std::vector<FfnGroup>& groups, const std::vector<Middle>& middles, int64_t rows) {
  int64_t widest = 1;
  for (const FfnGroup& group : groups) widest = std::max(widest, group.ffn->intermediate());
  float* const scratch = cpu.arena.take<float>(cpu.pool.threads() * widest);
  const auto body = [&](int64_t begin, int64_t end, int thread) {
    auto at = std::upper_bound(middles.begin(), middles.end(), begin,
                               [](int64_t row, const Middle& m) { return row < m.firstRow; }) -
              1;
    for (int64_t row = begin; row < end; ++row) {
      while (row >= at->firstRow + groups[static_cast<size_t>(at - middles.begin())].count) ++at;
      activateRow(cpu, groups[static_cast<size_t>(at - middles.begin())], *at, row - at->firstRow,
                  scratch + thread * widest);
    }
  };
  cpu.pool.run(rows, body, std::max<int64_t>(1, kSerialElements / widest));
}

}  // namespace

void runFfn(CpuContext& cpu, const std::vector<FfnGroup>& groups, const std::vector<MatmulJob>& beside) {
  std::vector<Middle> middles;
  std::vector<MatmulJob> jobs;
  middles.reserve(groups.size());
  jobs.reserve(groups.size() + beside.size());
  int64_t rows = 0;
  for (const FfnGroup& group : groups) {
    const PackedFfn& ffn = *group.ffn;
    const int64_t both = ffn.gateUp.n();
    Middle middle;
    middle.firstRow = rows;
    middle.gateUp = cpu.arena.take<float>(group.count * both);
    middle.act = cpu.arena.take<uint8_t>(group.count * inputRowBytes(ffn.down.family(), ffn.intermediate()));
    jobs.push_back({&ffn.gateUp, group.input, group.count, middle.gateUp, both, group.rowIndex});
    middles.push_back(middle);
    rows += group.count;
  }
  jobs.insert(jobs.end(), beside.begin(), beside.end());
  matmul(cpu.matmul, cpu.pool, jobs);
  activate(cpu, groups, middles, rows);
  jobs.clear();
  for (size_t g = 0; g < groups.size(); ++g) {
    const PackedLinear& down = groups[g].ffn->down;
    const MatmulInput input{middles[g].act, inputRowBytes(down.family(), down.k())};
    jobs.push_back({&down, input, groups[g].count, groups[g].out, down.n()});
  }
  matmul(cpu.matmul, cpu.pool, jobs);
}

}  // namespace guildhall
