// Rates of the output head with its loss: head_bench [threads [instruction set]]. The work counted is two
// products: logits, and the gradient of hidden. One thread is timed by its processor time.
#include <vector>

#include "bench.h"
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

// Numbers of both signs and like size in bf16: products of their rows are small beside the rows' norms.
uint16_t* numbers(Arena& arena, int64_t count, uint32_t exponent, uint64_t seed) {
  auto* const values = reinterpret_cast<uint16_t*>(arena.take(count * 2));
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    values[i] = static_cast<uint16_t>((seed >> 48 & 0x807f) | exponent << 7);
  }
  return values;
}

Operand operand(void* data, DType dtype, int64_t rows, int64_t columns) {
  return {data, dtype, columns, rows, columns};
}

void measure(Arena& arena, const Problem& p) {
  arena.clear();
  uint16_t* const hidden = numbers(arena, p.rows * p.hidden_size, 127, 1);
  uint16_t* const weight = numbers(arena, p.vocab_size * p.hidden_size, 121, 2);
  char* const d_hidden = arena.take(p.rows * p.hidden_size * 2);
  std::vector<int32_t> rows, labels;
  for (int64_t i = 0; i < p.rows; ++i) {
    rows.push_back(static_cast<int32_t>(i));
    labels.push_back(static_cast<int32_t>(i * 7919 % p.vocab_size));
  }
  std::vector<float> weights(rows.size(), 1 / static_cast<float>(p.rows));
  double sums[4] = {};
  const Operand in[] = {
      operand(hidden, DType::bf16, p.rows, p.hidden_size),
      operand(weight, DType::bf16, p.vocab_size, p.hidden_size), operand(rows.data(), DType::i32, p.rows, 1),
      operand(labels.data(), DType::i32, p.rows, 1), operand(weights.data(), DType::f32, p.rows, 1)};
  const Operand updates[] = {operand(sums, DType::f64, 4, 1), kAbsentOperand};
  const Operand out[] = {operand(d_hidden, DType::bf16, p.rows, p.hidden_size)};
  char* const workspace = arena.take(
      head_workspace_bytes({p.rows, p.rows, p.vocab_size, p.hidden_size, DType::bf16, true, false}));
  double seconds[2];
  for (const bool gradient : {false, true}) {
    const Attributes attributes{{"gradient", int64_t{gradient}}};
    const KernelContext context{in, out, updates, 5, gradient ? 1 : 0, 2, &attributes, "head", workspace};
    seconds[gradient ? 1 : 0] = best_seconds(3, 200, 0.5, [&] { ops::head_loss_op.run_cpu(context); });
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
  set_threads_and_isa(argc, argv);
  fmt::print("{}; {} threads; {}\n", cpu_text(), num_threads(), name_of(cpu_isa()));
  fmt::print("large products: {:.1f} GFLOP/s bf16\n", measured_product_rate(DType::bf16) / 1e9);
  Arena arena(int64_t{768} << 20);
  for (const Problem& problem : kProblems) measure(arena, problem);
}
