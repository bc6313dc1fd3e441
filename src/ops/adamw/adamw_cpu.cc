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
  int64_t blocks = 0;
  for (int i = 0; i < c.num_inputs; ++i) {
    const Operand& g = c.input(i);
    const int64_t count = g.rows * g.row_size, own = (count + kBlock - 1) / kBlock;
    parallel_for(0, own, 2, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t first = block * kBlock, size = count - first < kBlock ? count - first : kBlock;
        partial[blocks + block] = g.dtype == DType::f64 ? sum_of_squares(g.as<double>() + first, size)
                                                        : sum_of_squares(g.as<float>() + first, size);
      }
    });
    blocks += own;
  }
  double sum = 0;
  for (int64_t block = 0; block < blocks; ++block) sum += partial[block];
  const double norm = __builtin_sqrt(sum), max_norm = c.attributes->number("max_norm");
  double* stats = c.update(0).as<double>();
  stats[0] = norm;
  stats[1] = max_norm > 0 && norm + 1e-6 > max_norm ? max_norm / (norm + 1e-6) : 1.0;
}

namespace {

// A: of the gradient and of all arithmetic; P and M: of the parameter and the moments.
template <class A, class P, class M>
void step(const KernelContext& c, const AdamWFactors<A>& factors, int tensor) {
  const Operand* o = c.updates + tensor * kUpdates;
  const Operand &p = o[0], &m = o[1], &v = o[2], &g = o[3], &copy = o[4];
  const int64_t count = p.rows * p.row_size, stream = adamw_stream(c, tensor);
  parallel_for(0, (count + kAdamWRun - 1) / kAdamWRun, kBlock / kAdamWRun, [&](int64_t begin, int64_t end) {
    const AdamWFactors<A> f = factors;
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
  });
}

}  // namespace

void adamw_step(const KernelContext& c) {
  const AdamWFactors<float> factors = adamw_factors<float>(c);
  for (int tensor = 0; tensor < c.num_updates / kUpdates; ++tensor) {
    const Operand* o = c.updates + tensor * kUpdates;
    const bool narrow = o[0].dtype == DType::bf16, narrow_moments = o[1].dtype == DType::bf16;
    if (o[0].dtype == DType::f64)
      step<double, double, double>(c, adamw_factors<double>(c), tensor);
    else if (narrow && narrow_moments)
      step<float, BFloat16, BFloat16>(c, factors, tensor);
    else if (narrow)
      step<float, BFloat16, float>(c, factors, tensor);
    else if (narrow_moments)
      step<float, float, BFloat16>(c, factors, tensor);
    else
      step<float, float, float>(c, factors, tensor);
  }
}

}  // namespace serval::SERVAL_ISA
