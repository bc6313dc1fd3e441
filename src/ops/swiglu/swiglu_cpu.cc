#include "ops/common/kernel.h"
#include "ops/common/lanes.h"

namespace serval::SERVAL_ISA {
namespace {

template <class T, class F>
void for_rows(const Operand& shape, F f) {
  parallel_for(0, shape.rows, 1 + 4096 / shape.row_size, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) f(row);
  });
}

template <class A>
SERVAL_INLINE Lanes<A> sigmoid(Lanes<A> x) {
  return reciprocal(exponential(-x) + A(1));
}

}  // namespace

void swiglu_forward(const KernelContext& c) {
  const Operand &x = c.input(0), &y = c.output(0);
  with_type(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    for_rows<T>(y, [&](int64_t row) {
      const T *gate = x.row<T>(row), *up = gate + y.row_size;
      T* o = y.row<T>(row);
      for_lanes(y.row_size, [&](int64_t i, auto count) {
        const auto g = read_lanes(gate + i, count);
        write_lanes(o + i, g * sigmoid<Accumulator<T>>(g) * read_lanes(up + i, count), count);
      });
    });
  });
}

// With y, the activation again, of the same bits.
void swiglu_backward(const KernelContext& c) {
  const Operand &dy = c.input(0), &x = c.input(1), &dx = c.output(0), &y = c.output(1);
  with_type(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const int64_t size = dy.row_size;
    for_rows<T>(dy, [&](int64_t row) {
      const T *gate = x.row<T>(row), *up = gate + size, *d = dy.row<T>(row);
      T *d_gate = dx.row<T>(row), *d_up = d_gate + size, *again = y ? y.row<T>(row) : nullptr;
      for_lanes(size, [&](int64_t i, auto count) {
        const auto g = read_lanes(gate + i, count), u = read_lanes(up + i, count),
                   grad = read_lanes(d + i, count), s = sigmoid<A>(g), silu = g * s;
        if (again != nullptr) write_lanes(again + i, silu * u, count);
        write_lanes(d_gate + i, grad * u * (s + silu * (A(1) - s)), count);
        write_lanes(d_up + i, grad * silu, count);
      });
    });
  });
}

}  // namespace serval::SERVAL_ISA
