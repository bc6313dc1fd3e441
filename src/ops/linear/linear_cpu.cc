#include "ops/common/kernel.h"
#include "ops/common/products.h"
#include "ops/common/row_parts.h"
#include "ops/linear/linear_calls.h"

namespace serval {
SERVAL_CPU_FUNCTION(linear_dropout, DropoutArgs)
SERVAL_CPU_FUNCTION(linear_column_sums, ColumnSumsArgs)

namespace {

// The columns that go with the rows [begin, end) where all columns are shared out as the rows are.
struct Columns {
  int64_t begin, count;
};
Columns columns_beside(int64_t columns, int64_t begin, int64_t end, int64_t rows) {
  constexpr int64_t kUnit = 32;
  const auto border = [&](int64_t row) {
    return row == rows ? columns : (columns * row / rows + kUnit / 2) / kUnit * kUnit;
  };
  return {border(begin), border(end) - border(begin)};
}

}  // namespace

void run_linear_forward(const KernelContext& c) {
  using namespace linear_forward_operands;
  const auto segments = adapted_segments(c);
  const double p = segments.empty() ? 0 : c.attributes->number("dropout");
  for_row_parts(c.input(weight), c.input(x).rows, [&](int64_t begin, int64_t end) {
    const auto rows_of = [&](const Operand& o) { return Matrix::of(o).row_range(begin, end - begin); };
    const Matrix input = rows_of(c.input(x)), out = rows_of(c.output(y));
    multiply(input, Matrix::of(c.input(weight)).t(), out, 1, false, &c.input(bias));
    if (segments.empty()) return;
    // The CPU gains nothing from the columns beside x; they hold u where nobody else needs it.
    const Matrix adapter = Matrix::of(c.input(a)),
                 low = rows_of(c.output(u) ? c.output(u) : c.output(x_side)).column_range(0, adapter.rows);
    if (p == 0) multiply(input, adapter.t(), low);
    for (const AdaptedSegment& s : segments) {
      const Matrix part = low.column_range(s.rank_begin, s.rank);
      if (p > 0) {
        Matrix dropped{c.workspace, input.dtype, c.input(x).rows, input.columns, input.columns, false};
        dropped = dropped.row_range(begin, end - begin);
        run_linear_dropout({input.operand(), dropped.data, dropped.stride, false, p,
                            c.input(random).as<int64_t>(), s.name_hash, begin});
        multiply(dropped, adapter.row_range(s.rank_begin, s.rank).t(), part);
      }
      multiply(part, Matrix::of(c.input(first_b + s.index)).t(), out.column_range(s.column, s.size), s.scale,
               true);
    }
  });
}

void run_linear_backward(const KernelContext& c) {
  using namespace linear_backward_operands;
  const bool wants_dx = static_cast<bool>(c.output(dx));
  if (c.update(d_bias)) run_linear_column_sums({c.input(dy), c.update(d_bias)});
  const auto segments = adapted_segments(c);
  const double p = segments.empty() ? 0 : c.attributes->number("dropout");
  const int64_t all_rows = c.input(dy).rows;
  for_row_parts(c.input(weight), all_rows, [&](int64_t begin, int64_t end) {
    const auto rows_of = [&](const Operand& o) { return Matrix::of(o).row_range(begin, end - begin); };
    const Matrix grad = rows_of(c.input(dy)), frozen = Matrix::of(c.input(weight)),
                 out = rows_of(c.output(dx));
    if (wants_dx) multiply(grad, frozen, out);
    if (segments.empty()) return;
    const Matrix adapter = Matrix::of(c.input(a)), v_all = rows_of(c.output(v));
    for (const AdaptedSegment& s : segments) {
      multiply(grad.column_range(s.column, s.size), Matrix::of(c.input(first_b + s.index)),
               v_all.column_range(s.rank_begin, s.rank), s.scale);
      const Operand& d_b = c.update(first_d_b + s.index);
      if (!d_b) continue;
      // All rows of dy and u, for some rows of dB.
      const Columns own = columns_beside(s.size, begin, end, all_rows);
      multiply(Matrix::of(c.input(dy)).column_range(s.column + own.begin, own.count).t(),
               Matrix::of(c.input(u)).column_range(s.rank_begin, s.rank),
               Matrix::of(d_b).row_range(own.begin, own.count), s.scale, true);
    }
    if (!wants_dx) return;
    if (p == 0) return multiply(v_all, adapter, out, 1, true);
    Matrix copy{c.workspace, grad.dtype, all_rows, frozen.columns, frozen.columns, false};
    copy = copy.row_range(begin, end - begin);
    for (const AdaptedSegment& s : segments) {
      multiply(v_all.column_range(s.rank_begin, s.rank), adapter.row_range(s.rank_begin, s.rank), copy);
      run_linear_dropout(
          {copy.operand(), out.data, out.stride, true, p, c.input(random).as<int64_t>(), s.name_hash, begin});
    }
  });
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
        {c.input(x), copy.data, copy.stride, false, p, c.input(random).as<int64_t>(), s.name_hash});
    multiply(v_all.column_range(s.rank_begin, s.rank).t(), copy, d_adapter.row_range(s.rank_begin, s.rank), 1,
             true);
  }
}

}  // namespace serval
