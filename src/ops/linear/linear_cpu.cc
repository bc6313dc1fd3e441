#include "ops/common/kernel.h"
#include "ops/common/products.h"
#include "ops/linear/linear_calls.h"

namespace serval {
SERVAL_CPU_FUNCTION(linear_dropout, DropoutArgs)
SERVAL_CPU_FUNCTION(linear_column_sums, ColumnSumsArgs)

void run_linear_forward(const KernelContext& c) {
  using namespace linear_forward_operands;
  const Matrix input = Matrix::of(c.input(x)), out = Matrix::of(c.output(y));
  multiply(input, Matrix::of(c.input(weight)).t(), out, 1, false, &c.input(bias));
  const auto segments = adapted_segments(c);
  if (segments.empty()) return;
  // The CPU gains nothing from the columns beside x; they hold u where nobody else needs it.
  const Matrix adapter = Matrix::of(c.input(a)),
               low = Matrix::of(c.output(u) ? c.output(u) : c.output(x_side)).column_range(0, adapter.rows);
  const double p = c.attributes->number("dropout");
  if (p == 0) multiply(input, adapter.t(), low);
  for (const AdaptedSegment& s : segments) {
    const Matrix part = low.column_range(s.rank_begin, s.rank);
    if (p > 0) {
      run_linear_dropout(
          {&c.input(x), c.workspace, input.columns, false, p, c.input(random).as<int64_t>(), s.name_hash});
      Matrix dropped = input;
      dropped.data = c.workspace;
      dropped.stride = input.columns;
      multiply(dropped, adapter.row_range(s.rank_begin, s.rank).t(), part);
    }
    multiply(part, Matrix::of(c.input(first_b + s.index)).t(), out.column_range(s.column, s.size), s.scale,
             true);
  }
}

void run_linear_backward(const KernelContext& c) {
  using namespace linear_backward_operands;
  const Matrix grad = Matrix::of(c.input(dy)), frozen = Matrix::of(c.input(weight)),
               out = Matrix::of(c.output(dx));
  const bool wants_dx = static_cast<bool>(c.output(dx));
  if (wants_dx) multiply(grad, frozen, out);
  if (c.update(d_bias)) run_linear_column_sums({c.input(dy), c.update(d_bias)});

  const auto segments = adapted_segments(c);
  if (segments.empty()) return;
  const Matrix adapter = Matrix::of(c.input(a)), low = Matrix::of(c.input(u)),
               v_all = Matrix::of(c.output(v));
  const double p = c.attributes->number("dropout");
  for (const AdaptedSegment& s : segments) {
    const Matrix part = grad.column_range(s.column, s.size), b = Matrix::of(c.input(first_b + s.index));
    multiply(part, b, v_all.column_range(s.rank_begin, s.rank), s.scale);
    if (c.update(first_d_b + s.index))
      multiply(part.t(), low.column_range(s.rank_begin, s.rank), Matrix::of(c.update(first_d_b + s.index)),
               s.scale, true);
  }
  if (!wants_dx) return;
  if (p == 0) {
    multiply(v_all, adapter, out, 1, true);
    return;
  }
  const Matrix copy{c.workspace, grad.dtype, grad.rows, frozen.columns, frozen.columns, false};
  for (const AdaptedSegment& s : segments) {
    multiply(v_all.column_range(s.rank_begin, s.rank), adapter.row_range(s.rank_begin, s.rank), copy);
    const Operand before{copy.data, copy.dtype, copy.stride, copy.rows, copy.columns};
    run_linear_dropout({&before, out.data, out.stride, true, p, c.input(random).as<int64_t>(), s.name_hash});
  }
}

void run_linear_gradients(const KernelContext& c) {
  using namespace linear_gradients_operands;
  const Matrix input = Matrix::of(c.input(x));
  if (c.update(d_weight))
    multiply(Matrix::of(c.input(dy)).t(), input, Matrix::of(c.update(d_weight)), 1, true);
  if (!c.update(d_a)) return;
  const Matrix v_all = Matrix::of(c.input(v)), d_adapter = Matrix::of(c.update(d_a));
  const double p = c.attributes->number("dropout");
  if (p == 0) {
    multiply(v_all.t(), input, d_adapter, 1, true);
    return;
  }
  const Matrix copy{c.workspace, input.dtype, input.rows, input.columns, input.columns, false};
  for (const AdaptedSegment& s : adapted_segments(c)) {
    run_linear_dropout(
        {&c.input(x), copy.data, copy.stride, false, p, c.input(random).as<int64_t>(), s.name_hash});
    multiply(v_all.column_range(s.rank_begin, s.rank).t(), copy, d_adapter.row_range(s.rank_begin, s.rank), 1,
             true);
  }
}

}  // namespace serval
