#include "ops/adamw/adamw_cpu.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr int64_t kBlock = 16384;  // a multiple of kAdamWRun
constexpr int kUpdates = 5;        // operands of one tensor

template <class G>
double sum_of_squares(const G* g, int64_t count) {
  double lanes[8] = {}, sum = 0;
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int lane = 0; lane < 8; ++lane)
      lanes[lane] += static_cast<double>(g[i + lane]) * static_cast<double>(g[i + lane]);
  for (; i < count; ++i) sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
  for (int lane = 0; lane < 8; ++lane) sum += lanes[lane];
  return sum;
}

}  // namespace

void gradient_norm(const KernelContext& c) {
  double* partial = static_cast<double*>(c.workspace);
  const auto blocks_of = [](const Operand& g) { return (g.rows * g.row_size + kBlock - 1) / kBlock; };
  int64_t blocks = 0;
  for (int i = 0; i < c.num_inputs; ++i) blocks += blocks_of(c.input(i));
  parallel_for(0, blocks, 2, [&](int64_t begin, int64_t end) {
    for_parts(
        c.num_inputs, begin, end, [&](int i) { return blocks_of(c.input(i)); },
        [&](int i, int64_t from, int64_t to, int64_t tensor_begin) {
          const Operand& g = c.input(i);
          const int64_t count = g.rows * g.row_size;
          for (int64_t block = from; block < to; ++block) {
            const int64_t first = block * kBlock, size = count - first < kBlock ? count - first : kBlock;
            partial[tensor_begin + block] = g.dtype == DType::f64
                                                ? sum_of_squares(g.as<double>() + first, size)
                                                : sum_of_squares(g.as<float>() + first, size);
          }
        });
  });
  double sum = 0;
  for (int64_t block = 0; block < blocks; ++block) sum += partial[block];
  const double norm = __builtin_sqrt(sum), max_norm = c.attributes->number("max_norm");
  double* stats = c.update(0).as<double>();
  stats[0] = norm;
  stats[1] = max_norm > 0 && norm + 1e-6 > max_norm ? max_norm / (norm + 1e-6) : 1.0;
}

namespace {

// The runs [begin, end) of a tensor. A: of the gradient and of all arithmetic; P and M: of the parameter and
// the moments.
template <class A, class P, class M>
void step(const KernelContext& c, const AdamWFactors<A>& f, int tensor, int64_t begin, int64_t end) {
  const Operand* o = c.updates + tensor * kUpdates;
  const Operand &p = o[0], &m = o[1], &v = o[2], &g = o[3], &copy = o[4];
  const int64_t count = p.rows * p.row_size, stream = adamw_stream(c, tensor);
  A pp[kAdamWRun], mm[kAdamWRun], vv[kAdamWRun];
  uint32_t random[kAdamWRun];
  for (int64_t run = begin; run < end; ++run) {
    const int64_t first = run * kAdamWRun, size = count - first < kAdamWRun ? count - first : kAdamWRun;
    read_run<A, P>(p, first, size, pp);
    read_run<A, M>(m, first, size, mm);
    read_run<A, M>(v, first, size, vv);
    A* gg = g.as<A>() + first;
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) {
      adamw_update(f, gg[i], pp[i], mm[i], vv[i]);
      gg[i] = 0;
    }
    const uint32_t* words = adamw_words(c, stream, first, random);
    write_run<A, M>(m, first, size, mm);
    write_run<A, M>(v, first, size, vv, words, for_second_moment);
    write_run<A, P>(p, first, size, pp, words, for_weight);
    if (copy && copy.dtype == DType::bf16) write_run<A, BFloat16>(copy, first, size, pp);
    if (copy && copy.dtype == DType::f32) write_run<A, float>(copy, first, size, pp);
  }
}

}  // namespace

void adamw_step(const KernelContext& c) {
  const AdamWFactors<float> factors = adamw_factors<float>(c);
  const AdamWFactors<double> wide_factors = adamw_factors<double>(c);
  const int tensors = c.num_updates / kUpdates;
  const auto runs_of = [&](int tensor) {
    const Operand& p = c.updates[tensor * kUpdates];
    return (p.rows * p.row_size + kAdamWRun - 1) / kAdamWRun;
  };
  int64_t runs = 0;
  for (int tensor = 0; tensor < tensors; ++tensor) runs += runs_of(tensor);
  parallel_for(0, runs, kBlock / kAdamWRun, [&](int64_t begin, int64_t end) {
    for_parts(tensors, begin, end, runs_of, [&](int tensor, int64_t from, int64_t to, int64_t) {
      const Operand* o = c.updates + tensor * kUpdates;
      const bool narrow = o[0].dtype == DType::bf16, narrow_moments = o[1].dtype == DType::bf16;
      if (o[0].dtype == DType::f64)
        step<double, double, double>(c, wide_factors, tensor, from, to);
      else if (narrow && narrow_moments)
        step<float, BFloat16, BFloat16>(c, factors, tensor, from, to);
      else if (narrow)
        step<float, BFloat16, float>(c, factors, tensor, from, to);
      else if (narrow_moments)
        step<float, float, BFloat16>(c, factors, tensor, from, to);
      else
        step<float, float, float>(c, factors, tensor, from, to);
    });
  });
}

}  // namespace serval::SERVAL_ISA
