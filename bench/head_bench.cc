// Rates of the output head with its loss: head_bench [threads [instruction set]]. The work counted is two
// products: logits, and the gradient of hidden. One thread is timed by its processor time.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <string_view>
#include <vector>

#include "base/cpu.h"
#include "base/parallel.h"
#include "gemm/gemm.h"
#include "ops/head/head.h"
#include "ops/head/head_kernels.h"

namespace serval {
namespace {

struct Problem {
  int64_t rows, vocab_size, hidden_size;
};

constexpr Problem kProblems[] = {
    {1024, 151936, 1024}, {128, 151936, 1024}, {16, 151936, 1024}, {1024, 32000, 2048}, {256, 768, 128},
};

double now() {
  timespec time{};
  clock_gettime(num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double best_seconds(const Op& op, const KernelContext& context) {
  double best = 1e30, total = 0;
  for (int run = 0; run < 200 && (total < 0.5 || run < 3); ++run) {
    const double start = now();
    op.run_cpu(context);
    const double seconds = now() - start;
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

// Numbers of both signs and like size in bf16: products of their rows are small beside the rows' norms.
std::vector<uint16_t> numbers(int64_t count, uint32_t exponent, uint64_t seed) {
  std::vector<uint16_t> values(static_cast<size_t>(count));
  for (uint16_t& value : values) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    value = static_cast<uint16_t>((seed >> 48 & 0x807f) | exponent << 7);
  }
  return values;
}

Operand operand(void* data, DType dtype, int64_t rows, int64_t columns) {
  return {data, dtype, columns, rows, columns};
}

void measure(const Problem& p) {
  std::vector<uint16_t> hidden = numbers(p.rows * p.hidden_size, 127, 1),
                        weight = numbers(p.vocab_size * p.hidden_size, 121, 2);
  std::vector<uint16_t> d_hidden(hidden.size());
  std::vector<int32_t> rows, labels;
  for (int64_t i = 0; i < p.rows; ++i) {
    rows.push_back(static_cast<int32_t>(i));
    labels.push_back(static_cast<int32_t>(i * 7919 % p.vocab_size));
  }
  std::vector<float> weights(rows.size(), 1 / static_cast<float>(p.rows));
  double sums[4] = {};
  const Operand in[] = {operand(hidden.data(), DType::bf16, p.rows, p.hidden_size),
                        operand(weight.data(), DType::bf16, p.vocab_size, p.hidden_size),
                        operand(rows.data(), DType::i32, p.rows, 1),
                        operand(labels.data(), DType::i32, p.rows, 1),
                        operand(weights.data(), DType::f32, p.rows, 1)};
  const Operand updates[] = {operand(sums, DType::f64, 4, 1), kAbsentOperand};
  const Operand out[] = {operand(d_hidden.data(), DType::bf16, p.rows, p.hidden_size)};
  std::vector<char> workspace(static_cast<size_t>(
      head_workspace_bytes({p.rows, p.rows, p.vocab_size, p.hidden_size, DType::bf16, true, false})));
  double seconds[2];
  for (const bool gradient : {false, true}) {
    const Attributes attributes{{"gradient", int64_t{gradient}}};
    const KernelContext context{in,          out,    updates,         5, gradient ? 1 : 0, 2,
                                &attributes, "head", workspace.data()};
    seconds[gradient ? 1 : 0] = best_seconds(ops::head_loss_op, context);
  }
  const double product =
      2e-9 * static_cast<double>(p.rows * p.vocab_size) * static_cast<double>(p.hidden_size);
  fmt::print(
      "{:5} rows of {:6} x {:4}: loss {:9.3f} ms {:7.1f} GFLOP/s  with gradient {:9.3f} ms {:7.1f} GFLOP/s\n",
      p.rows, p.vocab_size, p.hidden_size, seconds[0] * 1e3, product / seconds[0], seconds[1] * 1e3,
      2 * product / seconds[1]);
}

}  // namespace
}  // namespace serval

int main(int argc, char** argv) {
  using namespace serval;
  if (argc > 1) set_num_threads(std::atoi(argv[1]));
  for (CpuIsa isa : usable_cpu_isas())
    if (argc > 2 && argv[2] == std::string_view(name_of(isa))) set_cpu_isa(isa);
  fmt::print("{}; {} threads; {}\n", cpu_text(), num_threads(), name_of(cpu_isa()));
  fmt::print("large products: {:.1f} GFLOP/s bf16\n", measured_product_rate(DType::bf16) / 1e9);
  for (const Problem& problem : kProblems) measure(problem);
}
