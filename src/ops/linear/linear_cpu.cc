#include <algorithm>

#include "ops/common/kernel.h"
#include "ops/common/products.h"
#include "ops/common/row_parts.h"
#include "ops/linear/linear_calls.h"

namespace serval {
SERVAL_CPU_FUNCTION(linear_dropout, DropoutArgs)
SERVAL_CPU_FUNCTION(linear_column_sums, ColumnSumsArgs)

void run_linear_forward(const KernelContext& c) {
  using namespace linear_forward_operands;
  const auto segments = adapted_segments(c);
  const double p = segments.empty() ? 0 : c.attributes->number("dropout");
  for_row_parts(is_small_weight(c.input(weight)), c.input(x).rows, [&](int64_t begin, int64_t end) {
    const auto rows_of = [&](const Operand& o) { return Matrix::of(o).row_range(begin, end - begin); };
    const Matrix input = rows_of(c.input(x)), out = rows_of(c.output(y));
    const GemmArgs frozen = product(input, Matrix::of(c.input(weight)).t(), out, 1, false, &c.input(bias));
    if (segments.empty()) return gemm(frozen);
    // The CPU gains nothing from the columns beside x; they hold u where nobody else needs it.
    const Matrix adapter = Matrix::of(c.input(a)),
                 low = rows_of(c.output(u) ? c.output(u) : c.output(x_side)).column_range(0, adapter.rows);
    if (p == 0 && equal_scales(segments)) {
      multiply(input, adapter.t(), low, segments[0].scale);
    } else {
      for (const AdaptedSegment& s : segments) {
        Matrix from = input;
        if (p > 0) {
          const Matrix copy{c.workspace, input.dtype, c.input(x).rows, input.columns, input.columns, false};
          from = copy.row_range(begin, end - begin);
          run_linear_dropout({input.operand(), from.data, from.stride, false, p,
                              c.input(random).as<int64_t>(), s.name_hash, begin});
        }
        multiply(from, adapter.row_range(s.rank_begin, s.rank).t(), low.column_range(s.rank_begin, s.rank),
                 s.scale);
      }
    }
    std::vector<GemmTerm> terms;
    for (const AdaptedSegment& s : segments)
      terms.push_back(low_rank_term(low.column_range(s.rank_begin, s.rank),
                                    Matrix::of(c.input(first_b + s.index)).t(), s.column));
    multiply_with_terms(frozen, terms, true);
  });
}

void run_linear_backward(const KernelContext& c) {
  using namespace linear_backward_operands;
  const bool wants_dx = static_cast<bool>(c.output(dx));
  if (c.update(d_bias)) run_linear_column_sums({c.input(dy), c.update(d_bias)});
  const auto segments = adapted_segments(c);
  const double p = segments.empty() ? 0 : c.attributes->number("dropout");
  const bool small = is_small_weight(c.input(weight));
  for_row_parts(small, c.input(dy).rows, [&](int64_t begin, int64_t end) {
    const auto rows_of = [&](const Operand& o) { return Matrix::of(o).row_range(begin, end - begin); };
    const Matrix grad = rows_of(c.input(dy)), frozen = Matrix::of(c.input(weight)),
                 out = rows_of(c.output(dx));
    if (segments.empty()) {
      if (wants_dx) multiply(grad, frozen, out);
      return;
    }
    const Matrix adapter = Matrix::of(c.input(a)), v_all = rows_of(c.output(v));
    for (const AdaptedSegment& s : segments)
      multiply(grad.column_range(s.column, s.size), Matrix::of(c.input(first_b + s.index)),
               v_all.column_range(s.rank_begin, s.rank), s.scale);
    if (!wants_dx) return;
    const GemmArgs back = product(grad, frozen, out, 1, false, nullptr);
    if (p == 0) {
      const GemmTerm term = low_rank_term(v_all, adapter, 0);
      return multiply_with_terms(back, {&term, 1}, false);
    }
    gemm(back);
    Matrix copy{c.workspace, grad.dtype, c.input(dy).rows, frozen.columns, frozen.columns, false};
    copy = copy.row_range(begin, end - begin);
    for (const AdaptedSegment& s : segments) {
      multiply(v_all.column_range(s.rank_begin, s.rank), adapter.row_range(s.rank_begin, s.rank), copy);
      run_linear_dropout(
          {copy.operand(), out.data, out.stride, true, p, c.input(random).as<int64_t>(), s.name_hash, begin});
    }
  });
  if (segments.empty()) return;
  // Each thread takes some rows of the dB, all rows of dy and u.
  for_column_parts(small, c.input(dy).row_size, [&](int64_t begin, int64_t end) {
    for (const AdaptedSegment& s : segments) {
      const int64_t from = std::max(begin, s.column), to = std::min(end, s.column + s.size);
      if (from < to && c.update(first_d_b + s.index))
        add_over_rows(small, Matrix::of(c.input(dy)).column_range(from, to - from),
                      Matrix::of(c.input(u)).column_range(s.rank_begin, s.rank),
                      Matrix::of(c.update(first_d_b + s.index)).row_range(from - s.column, to - from));
    }
  });
}

void run_linear_gradients(const KernelContext& c) {
  using namespace linear_gradients_operands;
  const Matrix input = Matrix::of(c.input(x));
  const auto segments = adapted_segments(c);
  int64_t out_features = 0;
  for (const int64_t size : c.attributes->integers("segments")) out_features += size;
  const bool small = is_small_weight(out_features, input.columns, input.dtype);
  const double p = segments.empty() ? 0 : c.attributes->number("dropout");
  const bool trains_a = static_cast<bool>(c.update(d_a));
  // Each thread takes some columns of the gradients and of x.
  for_column_parts(small, input.columns, [&](int64_t begin, int64_t end) {
    const auto columns_of = [&](const Matrix& m) { return m.column_range(begin, end - begin); };
    if (c.update(d_weight))
      add_over_rows(small, Matrix::of(c.input(dy)), columns_of(input),
                    columns_of(Matrix::of(c.update(d_weight))));
    if (trains_a && p == 0)
      add_over_rows(small, Matrix::of(c.input(v)), columns_of(input), columns_of(Matrix::of(c.update(d_a))));
  });
  if (!trains_a || p == 0) return;
  const Matrix copy{c.workspace, input.dtype, input.rows, input.columns, input.columns, false};
  for (const AdaptedSegment& s : segments) {
    run_linear_dropout(
        {c.input(x), copy.data, copy.stride, false, p, c.input(random).as<int64_t>(), s.name_hash});
    add_over_rows(small, Matrix::of(c.input(v)).column_range(s.rank_begin, s.rank), copy,
                  Matrix::of(c.update(d_a)).row_range(s.rank_begin, s.rank));
  }
}

}  // namespace serval
