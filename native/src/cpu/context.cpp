#include "context.h"

#include "guildhall/check.h"

namespace guildhall {

std::vector<float> readVector(const TensorSource& source, const std::string& path, int64_t n) {
  source.checkShape(path, n, 1);
  return readAll(source);
}

KernelFamily exactFamily(const TensorSource& source) {
  return source.dtype == Dtype::kBf16 && !source.scale ? KernelFamily::kBf16Fma : KernelFamily::kF32Fma;
}

void checkStep(const StepBuffers& step, int64_t hidden) {
  if (step.options().hidden != hidden) {
    failRange("step", "hidden size " + std::to_string(step.options().hidden) + ", expected " + std::to_string(hidden));
  }
  if (step.numTokens() == 0) failRange("step", "no batch is set");
}

void checkNorm(const std::string& path, const NormSpec& spec) {
  if (!(spec.eps >= 0.0f && spec.eps <= 1.0f)) failRange(path + ".eps", "is outside [0, 1]");
}

}  // namespace guildhall
