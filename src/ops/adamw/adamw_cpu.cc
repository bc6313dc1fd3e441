#include "ops/common/kernel.h"
#include "ops/common/kernel_math.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr int64_t kBlock = 16384;
constexpr int kUpdates = 5;  // operands of one tensor

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

void adamw_step(const KernelContext& c) {
  const double lr = c.input(0).as<double>()[0], t = c.input(0).as<double>()[1],
               factor = c.input(1).as<double>()[1];
  const double beta1 = c.attributes->number("beta1"), beta2 = c.attributes->number("beta2");
  const double step_size = lr / (1 - __builtin_pow(beta1, t)),
               inverse_root = 1 / __builtin_sqrt(1 - __builtin_pow(beta2, t));
  const double keep = 1 - lr * c.attributes->number("weight_decay"), eps = c.attributes->number("eps");
  const auto step = [&](auto tag, const Operand& p, const Operand& m, const Operand& v, const Operand& g,
                        const Operand& copy) {
    using A = decltype(tag);
    const A b1 = static_cast<A>(beta1), b2 = static_cast<A>(beta2), f = static_cast<A>(factor),
            k = static_cast<A>(keep);
    const A one_minus_b1 = static_cast<A>(1 - beta1), one_minus_b2 = static_cast<A>(1 - beta2);
    const A size = static_cast<A>(step_size), root = static_cast<A>(inverse_root), e = static_cast<A>(eps);
    parallel_for(0, p.rows * p.row_size, kBlock, [&](int64_t begin, int64_t end) {
      A *pp = p.as<A>(), *mm = m.as<A>(), *vv = v.as<A>(), *gg = g.as<A>();
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const A grad = gg[i] * f;
        const A m1 = b1 * mm[i] + one_minus_b1 * grad, v1 = b2 * vv[i] + one_minus_b2 * grad * grad;
        mm[i] = m1;
        vv[i] = v1;
        gg[i] = 0;
        pp[i] = pp[i] * k - size * m1 / (square_root(v1) * root + e);
      }
      if (!copy) return;
      const bool dense = copy.row_stride == copy.row_size;
      const auto place = [&](int64_t i) {
        return dense ? i : i / copy.row_size * copy.row_stride + i % copy.row_size;
      };
      if (copy.dtype == DType::bf16)
        for (int64_t i = begin; i < end; ++i)
          copy.as<BFloat16>()[place(i)] = store<BFloat16>(static_cast<float>(pp[i]));
      else if (copy.dtype == DType::f32)
        for (int64_t i = begin; i < end; ++i) copy.as<float>()[place(i)] = static_cast<float>(pp[i]);
    });
  };
  for (int i = 0; i < c.num_updates; i += kUpdates) {
    const Operand &p = c.update(i), &m = c.update(i + 1), &v = c.update(i + 2), &g = c.update(i + 3),
                  &copy = c.update(i + 4);
    if (p.dtype == DType::f64)
      step(double{}, p, m, v, g, copy);
    else
      step(float{}, p, m, v, g, copy);
  }
}

}  // namespace serval::SERVAL_ISA
