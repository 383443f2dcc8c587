#pragma once

#include <memory>
#include <string>
#include <vector>

#include "guildhall/arena.h"
#include "guildhall/backend.h"
#include "guildhall/matmul.h"
#include "guildhall/memory.h"
#include "guildhall/ops/ops.h"
#include "guildhall/thread_pool.h"
#include "rows/row_kernels.h"

namespace guildhall {

/** What the blocks of one cpu backend share. Pool and arena belong to the driver thread. */
struct CpuContext {
  CpuContext(const BackendInfo& backendInfo, std::shared_ptr<MemoryLedger> memoryLedger,
             std::shared_ptr<CoreLeases> coreLeases)
      : info(backendInfo),
        ops(guildhall::ops(backendInfo.isa)),
        matmul(matmulKernels(backendInfo.isa)),
        rows(rowKernels(backendInfo.isa)),
        ledger(std::move(memoryLedger)),
        pool(backendInfo.threads, std::move(coreLeases)),
        arena(ledger),
        innerArena(ledger) {}

  BackendInfo info;
  const OpsTable& ops;
  const MatmulKernels& matmul;
  RowKernels rows;
  std::shared_ptr<MemoryLedger> ledger;
  ThreadPool pool;
  /** Of the call that runs, and of the one that it interrupts or that interrupts it: they change places. */
  Arena arena;
  Arena innerArena;

  KernelFamily family(WeightFormat format) const {
    switch (format) {
      case WeightFormat::kF32:
        return KernelFamily::kF32Fma;
      case WeightFormat::kBf16:
        return info.bf16Dot ? KernelFamily::kBf16Dot : KernelFamily::kBf16Fma;
      case WeightFormat::kFp8:
        return info.bf16Dot ? KernelFamily::kFp8Dot : KernelFamily::kFp8Fma;
      case WeightFormat::kQ8:
        return KernelFamily::kQ8Dot;
      case WeightFormat::kQ4:
        return KernelFamily::kQ4Dot;
    }
    return KernelFamily::kF32Fma;
  }
};

using CpuContextPtr = std::shared_ptr<CpuContext>;

/** x [rows][k] (rows `stride` apart) times weight, into y [rows][weight.n()]. */
inline void runLinear(CpuContext& cpu, const PackedLinear& weight, const float* x, int64_t stride, int64_t rows,
                      float* y, int64_t yStride) {
  const MatmulInput input = prepareInput(cpu.matmul, weight.family(), x, stride, rows, weight.k(), cpu.arena, cpu.pool);
  matmul(cpu.matmul, cpu.pool, {{&weight, input, rows, y, yStride}});
}

/** Norm of [rows][dim] into `out`, both contiguous. */
inline void runNorm(CpuContext& cpu, const NormSpec& spec, const std::vector<float>& weight, const float* x, float* out,
                    int64_t rows) {
  RmsNormArgs args;
  const auto dim = static_cast<int64_t>(weight.size());
  args.x = x;
  args.xRowStride = dim;
  args.weight = weight.data();
  args.eps = spec.eps;
  args.zeroCentered = spec.zeroCentered;
  args.out = out;
  args.outRowStride = dim;
  args.rows = rows;
  args.dim = dim;
  cpu.ops.rmsNorm(cpu.pool, args);
}

/** hidden[t] += rows[t] over the step's tokens. */
inline void addToHidden(CpuContext& cpu, StepBuffers& step, const float* rows) {
  AddRowsArgs args;
  args.y = step.hidden();
  args.yStride = step.options().hidden;
  args.x = rows;
  args.xStride = step.options().hidden;
  args.rows = step.numTokens();
  args.cols = step.options().hidden;
  cpu.ops.addRows(cpu.pool, args);
}

/** A 1-D tensor [n, 1] as f32. Throws InvalidArgument naming `path`. */
std::vector<float> readVector(const TensorSource& source, const std::string& path, int64_t n);

/** Family of weights that always multiply f32 activations: bf16 sources stay bf16, which gives the same bits as f32. */
KernelFamily exactFamily(const TensorSource& source);

/** A batch must be set and the step's hidden size must be the block's. */
void checkStep(const StepBuffers& step, int64_t hidden);

void checkNorm(const std::string& path, const NormSpec& spec);

}  // namespace guildhall
