#pragma once

// Entry points of the kernels of one instruction set, collected by ops_table.cpp.

#include "guildhall/ops/ops.h"

namespace guildhall::GUILDHALL_ISA {

void expArray(const float* x, float* out, int64_t n);
void sigmoidArray(const float* x, float* out, int64_t n);
void siluArray(const float* x, float* out, int64_t n);
void softplusArray(const float* x, float* out, int64_t n);
float maxValue(const float* x, int64_t n);
double expSum(const float* x, float shift, float factor, float* out, int64_t n);
int64_t indexesAtLeast(const float* x, float threshold, int32_t* out, int64_t capacity, int64_t n);

void roundToBf16(ParallelFor& par, const float* x, Bf16* out, int64_t n);
void widenBf16(ParallelFor& par, const Bf16* x, float* out, int64_t n);
void siluMul(ParallelFor& par, const SiluMulArgs& args);
void addRows(ParallelFor& par, const AddRowsArgs& args);
void gateMul(ParallelFor& par, const GateMulArgs& args);
void rmsNorm(ParallelFor& par, const RmsNormArgs& args);
void rope(ParallelFor& par, const RopeArgs& args);
void kvWrite(ParallelFor& par, const KvWriteArgs& args);
void prepareHeads(ParallelFor& par, const HeadPrepArgs& args);
void attention(ParallelFor& par, const AttentionArgs& args);
void deltaNet(ParallelFor& par, const DeltaNetArgs& args);
void softmaxTopk(ParallelFor& par, const SoftmaxTopkArgs& args);

const OpsTable& opsTable();

}  // namespace guildhall::GUILDHALL_ISA
