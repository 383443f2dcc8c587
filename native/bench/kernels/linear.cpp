#include "bench.h"
#include "blocks/expert_ffn.h"

namespace guildhall::bench {

/** One product of `rows` rows with a weight [n, k], rows prepared for the family in the call as the blocks do. */
Kernel linearKernel(const Arguments& arguments, const Setup& setup) {
  const int64_t n = arguments.number("n", 1024);
  const int64_t k = arguments.number("k", 1024);
  const int64_t rows = arguments.number("rows", 1);
  struct Data {
    std::vector<PackedLinear> weights;
    std::vector<float> x;
    std::vector<float> y;
  };
  const auto data = std::make_shared<Data>();
  const int64_t bytes = PackedLinear::packedBytes(n, k, setup.cpu->family(setup.format));
  const int64_t copies = copiesBeyondCaches(bytes);
  for (int64_t i = 0; i < copies; ++i) data->weights.push_back(randomLinear(setup, n, k, static_cast<uint64_t>(i)));
  data->x = randomValues(rows * k, 1.0f, 99);
  data->y.resize(static_cast<size_t>(rows * n));
  Kernel kernel;
  kernel.run = [data, setup, rows, n, k](int64_t call) {
    const auto turn = static_cast<size_t>(call) % data->weights.size();
    runLinear(*setup.cpu, data->weights[turn], data->x.data(), k, rows, data->y.data(), n);
    setup.cpu->arena.reset();
  };
  kernel.bytes = static_cast<double>(bytes);
  kernel.flops = 2.0 * static_cast<double>(rows) * static_cast<double>(n) * static_cast<double>(k);
  return kernel;
}

namespace {

struct Experts {
  std::vector<PackedFfn> networks;
  std::vector<float> x;
  std::vector<float> out;
  /** Rows of each expert, chosen evenly: token t takes experts t * top, t * top + 1, … modulo their number. */
  std::vector<std::vector<int32_t>> rows;
};

void runExperts(CpuContext& cpu, Experts& data, int64_t layer, int64_t tokens, int64_t hidden, int64_t experts) {
  const KernelFamily family = data.networks[0].gateUp.family();
  const MatmulInput input =
      prepareInput(cpu.matmul, family, data.x.data(), hidden, tokens, hidden, cpu.arena, cpu.pool);
  std::vector<FfnGroup> groups;
  int64_t done = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const std::vector<int32_t>& rows = data.rows[static_cast<size_t>(e)];
    if (rows.empty()) continue;
    FfnGroup group;
    group.ffn = &data.networks[static_cast<size_t>(layer * experts + e)];
    group.input = input;
    group.rowIndex = rows.data();
    group.count = static_cast<int64_t>(rows.size());
    group.out = data.out.data() + done * hidden;
    done += group.count;
    groups.push_back(group);
  }
  runFfn(cpu, groups, {});
  cpu.arena.reset();
}

}  // namespace

/** The routed experts of one layer for `tokens` tokens that choose `top` of `experts` each. */
Kernel expertsKernel(const Arguments& arguments, const Setup& setup) {
  const int64_t hidden = arguments.number("hidden", 1024);
  const int64_t width = arguments.number("width", 512);
  const int64_t experts = arguments.number("experts", 64);
  const int64_t top = arguments.number("top", 8);
  const int64_t tokens = arguments.number("tokens", 1);
  const auto data = std::make_shared<Experts>();
  const KernelFamily family = setup.cpu->family(setup.format);
  const int64_t bytes = PackedLinear::packedBytes(2 * width, hidden, family) + PackedLinear::packedBytes(hidden, width, family);
  data->rows.resize(static_cast<size_t>(experts));
  for (int64_t i = 0; i < tokens * top; ++i) {
    data->rows[static_cast<size_t>(i % experts)].push_back(static_cast<int32_t>(i / top));
  }
  int64_t used = 0;
  for (const auto& rows : data->rows) used += rows.empty() ? 0 : 1;
  const int64_t layers = copiesBeyondCaches(used * bytes);
  for (int64_t i = 0; i < layers * experts; ++i) {
    // Experts that no token chooses need no weights.
    const bool idle = data->rows[static_cast<size_t>(i % experts)].empty();
    PackedFfn network;
    network.gateUp = randomLinear(setup, idle ? 1 : 2 * width, hidden, static_cast<uint64_t>(2 * i));
    network.down = randomLinear(setup, idle ? 1 : hidden, width, static_cast<uint64_t>(2 * i + 1));
    data->networks.push_back(std::move(network));
  }
  data->x = randomValues(tokens * hidden, 1.0f, 99);
  data->out.resize(static_cast<size_t>(tokens * top * hidden));
  Kernel kernel;
  kernel.run = [data, setup, tokens, hidden, experts, layers](int64_t call) {
    runExperts(*setup.cpu, *data, call % layers, tokens, hidden, experts);
  };
  kernel.bytes = static_cast<double>(used * bytes);
  kernel.flops = 2.0 * static_cast<double>(tokens * top) * 3.0 * static_cast<double>(width * hidden);
  return kernel;
}

}  // namespace guildhall::bench
