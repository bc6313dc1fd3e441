// Rates of attention: attention_bench [threads [instruction set [number of the one problem to measure]]]. The
// work counted is half of the square of scores: 4 FLOP an element and query dimension forward, 10 backward.
// One thread is timed by its processor time.
#include <cmath>
#include <iterator>

#include "bench.h"
#include "gemm/gemm.h"
#include "ops/attention/attention.h"

namespace serval {
namespace {

struct Problem {
  int64_t tokens, document, heads, kv_heads, dim;
  DType dtype;
};

constexpr Problem kProblems[] = {
    {1024, 1024, 16, 8, 128, DType::bf16}, {1024, 1024, 16, 8, 64, DType::bf16},
    {1024, 1024, 16, 8, 32, DType::bf16},  {256, 256, 4, 2, 32, DType::bf16},
    {1024, 64, 16, 8, 128, DType::bf16},   {1024, 64, 16, 8, 64, DType::bf16},
    {4096, 4096, 8, 1, 256, DType::bf16},  {1024, 1024, 16, 8, 128, DType::f32},
    {1024, 1024, 16, 8, 64, DType::f32},
};

struct Tensor {
  Operand operand;
  Tensor(Arena& arena, int64_t rows, int64_t columns, DType dtype)
      : operand{arena.take(rows * columns * size_of(dtype)), dtype, columns, rows, columns} {
    for (int64_t i = 0; i < rows * columns; ++i) {
      const double value = std::sin(static_cast<double>(i) * 0.37);
      if (dtype != DType::i32)
        convert_elements(&value, DType::f64, operand.as<char>() + i * size_of(dtype), dtype, 1);
    }
  }
};

void measure(Arena& arena, const Problem& s, double product_rate) {
  arena.clear();
  const int64_t wide = s.heads * s.dim, narrow = s.kv_heads * s.dim, documents = s.tokens / s.document;
  Tensor q(arena, s.tokens, wide, s.dtype), k(arena, s.tokens, narrow, s.dtype),
      v(arena, s.tokens, narrow, s.dtype);
  Tensor o(arena, s.tokens, wide, s.dtype), lse(arena, s.tokens, s.heads, DType::f32),
      d_o(arena, s.tokens, wide, s.dtype);
  Tensor dq(arena, s.tokens, wide, s.dtype), dk(arena, s.tokens, narrow, s.dtype),
      dv(arena, s.tokens, narrow, s.dtype);
  Tensor cu(arena, documents + 1, 1, DType::i32);
  for (int64_t i = 0; i <= documents; ++i) cu.operand.as<int32_t>()[i] = static_cast<int32_t>(i * s.document);
  void* const workspace = arena.take((s.tokens + 4) * s.heads * (2 * s.dim + 64) * 4);
  const Attributes attributes{{"heads", s.heads},
                              {"kv_heads", s.kv_heads},
                              {"head_dim", s.dim},
                              {"scale", 1 / std::sqrt(static_cast<double>(s.dim))},
                              {"window", int64_t{0}}};
  const Operand in[] = {q.operand, k.operand, v.operand, cu.operand}, out[] = {o.operand, lse.operand};
  const Operand in_backward[] = {d_o.operand, q.operand,   k.operand, v.operand,
                                 o.operand,   lse.operand, cu.operand};
  const Operand out_backward[] = {dq.operand, dk.operand, dv.operand};
  const KernelContext forward{in, out, nullptr, 4, 2, 0, &attributes, "forward", workspace};
  const KernelContext backward{in_backward, out_backward, nullptr,    7,        3,
                               0,           &attributes,  "backward", workspace};
  const double elements = static_cast<double>(s.tokens * s.document) / 2 * static_cast<double>(wide);
  const double seconds = best_seconds(1, 400, 0.3, [&] { ops::attention_op.run_cpu(forward); });
  const double seconds_backward =
      best_seconds(1, 400, 0.3, [&] { ops::attention_backward_op.run_cpu(backward); });
  const double rate = 4 * elements / seconds, rate_backward = 10 * elements / seconds_backward;
  fmt::print(
      "{:>4} {:5} tokens in documents of {:5}, heads {:2}/{}, dim {:3}: forward {:8.3f} ms {:6.1f} GFLOP/s "
      "({:3.0f} "
      "%)  backward {:8.3f} ms {:6.1f} GFLOP/s ({:3.0f} %)\n",
      name_of(s.dtype), s.tokens, s.document, s.heads, s.kv_heads, s.dim, seconds * 1e3, rate / 1e9,
      100 * rate / product_rate, seconds_backward * 1e3, rate_backward / 1e9,
      100 * rate_backward / product_rate);
}

}  // namespace
}  // namespace serval

int main(int argc, char** argv) {
  using namespace serval;
  set_threads_and_isa(argc, argv);
  fmt::print("{}; {} threads; {}\n", cpu_text(), num_threads(), name_of(cpu_isa()));
  const double rate[2] = {measured_product_rate(DType::f32), measured_product_rate(DType::bf16)};
  fmt::print("large products: {:.1f} GFLOP/s f32, {:.1f} bf16\n", rate[0] / 1e9, rate[1] / 1e9);
  const int only = argc > 3 ? std::atoi(argv[3]) : -1;
  Arena arena(int64_t{512} << 20);
  for (int i = 0; i < static_cast<int>(std::size(kProblems)); ++i)
    if (only < 0 || only == i) measure(arena, kProblems[i], rate[kProblems[i].dtype == DType::bf16 ? 1 : 0]);
}
