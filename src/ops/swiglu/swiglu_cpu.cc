#include "ops/common/kernel.h"
#include "ops/common/kernel_math.h"

namespace serval::SERVAL_ISA {

namespace {

void activate(const Operand& x, const Operand& y) {
  with_type(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const int64_t size = y.row_size;
    parallel_for(0, y.rows, 1 + 4096 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T *gate = x.row<T>(row), *up = gate + size;
        T* o = y.row<T>(row);
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) {
          const A g = load(gate[i]);
          o[i] = store<T>(g / (A(1) + exponential(-g)) * load(up[i]));
        }
      }
    });
  });
}

}  // namespace

void swiglu_forward(const KernelContext& c) {
  activate(c.input(0), c.output(0));
}

void swiglu_backward(const KernelContext& c) {
  const Operand &dy = c.input(0), &x = c.input(1), &dx = c.output(0), &y = c.output(1);
  if (y) activate(x, y);
  with_type(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const int64_t size = dy.row_size;
    parallel_for(0, dy.rows, 1 + 4096 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T *gate = x.row<T>(row), *up = gate + size, *d = dy.row<T>(row);
        T *d_gate = dx.row<T>(row), *d_up = d_gate + size;
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) {
          const A g = load(gate[i]), s = A(1) / (A(1) + exponential(-g)), grad = load(d[i]);
          d_gate[i] = store<T>(grad * load(up[i]) * s * (A(1) + g * (A(1) - s)));
          d_up[i] = store<T>(grad * g * s);
        }
      }
    });
  });
}

}  // namespace serval::SERVAL_ISA
