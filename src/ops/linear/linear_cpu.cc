#include <string>
#include <vector>

#include "base/philox.h"
#include "ops/common/kernel.h"
#include "ops/common/products.h"
#include "ops/linear/linear_calls.h"

namespace serval {
SERVAL_CPU_FUNCTION(linear_dropout, DropoutArgs)
SERVAL_CPU_FUNCTION(linear_column_sums, ColumnSumsArgs)

namespace {

// One adapted segment: its place among the outputs and in the stacked adapter.
struct Segment {
  size_t index = 0;
  int64_t column = 0, size = 0, rank_begin = 0, rank = 0;
  double scale = 0;
  uint64_t name_hash = 0;
};

std::vector<Segment> adapted_segments(const KernelContext& c) {
  const auto& sizes = c.attributes->integers("segments");
  const auto& ranks = c.attributes->integers("ranks");
  const auto& scales = c.attributes->numbers("scales");
  std::vector<Segment> segments;
  int64_t column = 0, rank = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (ranks[i] > 0)
      segments.push_back({i, column, sizes[i], rank, ranks[i], scales[i],
                          stable_hash(std::string(c.name) + "." + std::to_string(i))});
    column += sizes[i];
    rank += ranks[i];
  }
  return segments;
}

}  // namespace

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
  for (const Segment& s : segments) {
    const Matrix part = low.column_range(s.rank_begin, s.rank);
    if (p > 0) {
      run_linear_dropout(
          {&c.input(x), c.workspace, input.columns, false, p, c.input(random).as<int64_t>(), s.name_hash});
      Matrix dropped = input;
      dropped.data = c.workspace;
      dropped.stride = input.columns;
      multiply(dropped, adapter.row_range(s.rank_begin, s.rank).t(), part);
    }
    multiply(part, Matrix::of(c.input(first_b + static_cast<int>(s.index))).t(),
             out.column_range(s.column, s.size), s.scale, true);
  }
}

void run_linear_backward(const KernelContext& c) {
  using namespace linear_backward_operands;
  const Matrix grad = Matrix::of(c.input(dy)), frozen = Matrix::of(c.input(weight));
  const Matrix input = Matrix::of(c.input(x));  // absent unless a weight or an A trains
  const bool wants_dx = static_cast<bool>(c.output(dx));
  const Matrix out = Matrix::of(c.output(dx));
  if (wants_dx) multiply(grad, frozen, out);
  if (c.update(d_weight)) multiply(grad.t(), input, Matrix::of(c.update(d_weight)), 1, true);
  if (c.update(d_bias)) run_linear_column_sums({c.input(dy), c.update(d_bias)});

  const auto segments = adapted_segments(c);
  if (segments.empty()) return;
  const Matrix adapter = Matrix::of(c.input(a)), low = Matrix::of(c.input(u));
  const bool trains_a = static_cast<bool>(c.update(d_a));
  const double p = c.attributes->number("dropout");
  const int64_t rank = low.columns;
  const Matrix v{c.workspace, grad.dtype, grad.rows, rank, rank, false};
  for (const Segment& s : segments) {
    const int index = static_cast<int>(s.index);
    const Matrix part = grad.column_range(s.column, s.size), b = Matrix::of(c.input(first_b + index));
    multiply(part, b, v.column_range(s.rank_begin, s.rank), s.scale);
    if (c.update(first_d_b + index))
      multiply(part.t(), low.column_range(s.rank_begin, s.rank), Matrix::of(c.update(first_d_b + index)),
               s.scale, true);
  }
  if (p == 0) {
    if (wants_dx) multiply(v, adapter, out, 1, true);
    if (trains_a) multiply(v.t(), input, Matrix::of(c.update(d_a)), 1, true);
    return;
  }
  const Matrix copy{static_cast<char*>(c.workspace) + (grad.rows * rank * size_of(grad.dtype) + 63) / 64 * 64,
                    grad.dtype,
                    grad.rows,
                    frozen.columns,
                    frozen.columns,
                    false};
  for (const Segment& s : segments) {
    const Matrix v_part = v.column_range(s.rank_begin, s.rank);
    const int64_t* state = c.input(random).as<int64_t>();
    if (wants_dx) {
      multiply(v_part, adapter.row_range(s.rank_begin, s.rank), copy);
      const Operand before{copy.data, copy.dtype, copy.stride, copy.rows, copy.columns};
      run_linear_dropout({&before, out.data, out.stride, true, p, state, s.name_hash});
    }
    if (trains_a) {
      run_linear_dropout({&c.input(x), copy.data, copy.stride, false, p, state, s.name_hash});
      multiply(v_part.t(), copy, Matrix::of(c.update(d_a)).row_range(s.rank_begin, s.rank), 1, true);
    }
  }
}

}  // namespace serval
