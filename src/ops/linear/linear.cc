#include "ops/linear/linear.h"

#include <numeric>

#include "base/error.h"
#include "base/philox.h"
#include "ops/linear/adapter_backward.h"
#include "ops/linear/linear_calls.h"
#include "program/derive.h"

namespace serval {
void run_linear_forward(const KernelContext& c);
void run_linear_backward(const KernelContext& c);
void run_linear_gradients(const KernelContext& c);

std::vector<AdaptedSegment> adapted_segments(const KernelContext& c) {
  const auto& sizes = c.attributes->integers("segments");
  const auto& ranks = c.attributes->integers("ranks");
  const auto& scales = c.attributes->numbers("scales");
  const bool random = c.attributes->number("dropout") > 0;
  std::vector<AdaptedSegment> segments;
  int64_t column = 0, rank = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (ranks[i] > 0)
      segments.push_back({static_cast<int>(i), column, sizes[i], rank, ranks[i], scales[i],
                          random ? stable_hash(std::string(c.name) + "." + std::to_string(i)) : 0});
    column += sizes[i];
    rank += ranks[i];
  }
  return segments;
}

namespace ops {
namespace {

int64_t sum(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

int64_t dropout_bytes(const CallView& v, const TensorDecl& x_like, int64_t in_features) {
  return linear_dropout_scratch(x_like.shape.rows(), sum(v.attributes().integers("ranks")), in_features,
                                v.attributes().number("dropout"), size_of(x_like.dtype));
}

std::vector<OutputSpec> infer(const CallView& v) {
  using namespace linear_forward_operands;
  const TensorDecl &input = v.input(x), &w = v.input(weight);
  const auto& segments = v.attributes().integers("segments");
  const auto& ranks = v.attributes().integers("ranks");
  SERVAL_CHECK(w.shape.row_size() == input.shape.row_size() && w.shape.rows() == sum(segments) &&
                   w.dtype == input.dtype,
               "'{}': x {} {}, weight {} {}", v.call.name, name_of(input.dtype), to_string(input.shape),
               name_of(w.dtype), to_string(w.shape));
  SERVAL_CHECK(ranks.empty() || ranks.size() == segments.size());
  const int64_t rank = sum(ranks);
  if (rank > 0) {
    SERVAL_CHECK(v.has_input(a) && v.input(a).shape == (Shape{rank, input.shape.row_size()}), "'{}'",
                 v.call.name);
    for (size_t i = 0; i < ranks.size(); ++i)
      SERVAL_CHECK(ranks[i] == 0 || v.input(first_b + i).shape == (Shape{segments[i], ranks[i]}), "'{}'",
                   v.call.name);
    SERVAL_CHECK(v.attributes().number("dropout") == 0 || v.has_input(random));
  }
  return {{input.dtype, {input.shape.rows(), w.shape.rows()}, input.count},
          {input.dtype, {input.shape.rows(), rank}, input.count, ".adapter", rank == 0},
          {.absent = true}};
}

// The weight stands in a wider storage where it has an adapter.
bool has_storage(const TensorDecl& weight, int64_t rank) {
  return rank > 0 && weight.row_stride >= weight.shape.row_size() + linear_side_columns(rank);
}
SideColumns side_columns(const CallView& v) {
  using namespace linear_forward_operands;
  const int64_t rank = sum(v.attributes().integers("ranks"));
  if (!has_storage(v.input(weight), rank)) return {};
  return {.columns = linear_side_columns(rank), .input = x, .output = x_side, .copy = u};
}
SideColumns side_columns_backward(const CallView& v) {
  using namespace linear_backward_operands;
  const int64_t rank = sum(v.attributes().integers("ranks"));
  if (!has_storage(v.input(weight), rank)) return {};
  return {.columns = linear_side_columns(rank),
          .input = dy,
          .output = dy_side,
          .copy = linear_backward_operands::v,
          .alias = true};
}

double product_flops(int64_t rows, const TensorDecl& weight) {
  return 2.0 * static_cast<double>(rows) * static_cast<double>(weight.shape.elements());
}
// Of one product with A, and of one with every B.
double a_flops(const CallView& v, int64_t rows, int64_t in_features) {
  return 2.0 * static_cast<double>(rows * in_features * sum(v.attributes().integers("ranks")));
}
double b_flops(const CallView& v, int64_t rows) {
  const auto& segments = v.attributes().integers("segments");
  const auto& ranks = v.attributes().integers("ranks");
  double flops = 0;
  for (size_t i = 0; i < ranks.size(); ++i) flops += 2.0 * static_cast<double>(rows * segments[i] * ranks[i]);
  return flops;
}
double operand_bytes(const CallView& v) {
  double bytes = 0;
  for_each_operand(v.call, [&](TensorId id) {
    bytes += static_cast<double>(v.program.tensor(id).shape.elements() * size_of(v.program.tensor(id).dtype));
  });
  return bytes;
}

Cost cost(const CallView& v) {
  using namespace linear_forward_operands;
  const int64_t rows = v.input(x).shape.rows();
  return {
      product_flops(rows, v.input(weight)) + a_flops(v, rows, v.input(x).shape.row_size()) + b_flops(v, rows),
      operand_bytes(v)};
}
int64_t workspace(const CallView& v) {
  using namespace linear_forward_operands;
  return dropout_bytes(v, v.input(x), v.input(x).shape.row_size());
}

std::vector<OutputSpec> infer_backward(const CallView& view) {
  using namespace linear_backward_operands;
  const TensorDecl& grad = view.input(dy);
  const int64_t rank = sum(view.attributes().integers("ranks"));
  // Where nobody needs dx it is absent; the derivative rule says so by an attribute.
  return {{grad.dtype,
           {grad.shape.rows(), view.input(weight).shape.row_size()},
           grad.count,
           ".gradient",
           view.attributes().integer("wants_dx") == 0},
          {grad.dtype, {grad.shape.rows(), rank}, grad.count, ".adapter_gradient", rank == 0},
          {.absent = true}};
}
Cost cost_backward(const CallView& v) {
  using namespace linear_backward_operands;
  const int64_t rows = v.input(dy).shape.rows(), in_features = v.input(weight).shape.row_size();
  double flops = b_flops(v, rows);
  if (v.has_output(dx)) flops += product_flops(rows, v.input(weight)) + a_flops(v, rows, in_features);
  for (size_t i = first_d_b; i < v.call.updates.size(); ++i)
    if (v.has_update(i)) return {flops + b_flops(v, rows), operand_bytes(v)};
  return {flops, operand_bytes(v)};
}
int64_t workspace_backward(const CallView& v) {
  using namespace linear_backward_operands;
  return dropout_bytes(v, v.input(dy), v.input(weight).shape.row_size());
}
// And the partial sums of the kernel that takes v and dB at once.
int64_t cuda_workspace_backward(const CallView& v) {
  using namespace linear_backward_operands;
  const auto& segments = v.attributes().integers("segments");
  const auto& ranks = v.attributes().integers("ranks");
  const int64_t own = workspace_backward(v), rows = v.input(dy).shape.rows();
  int64_t columns = 0, rank = 0, splits = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    if (ranks[i] == 0) continue;
    if (!adapter_backward_rank(ranks[i]) || (rank > 0 && ranks[i] != rank)) return own;
    rank = ranks[i];
    columns += segments[i];
  }
  if (!v.has_output(dy_side) || rank == 0) return own;
  const AdapterBackwardCut cut(rows, columns);
  for (size_t i = 0; i < segments.size(); ++i)
    if (ranks[i] > 0) splits += cut.splits(segments[i]);
  return own + adapter_backward_bytes(cut, rows, columns, splits, rank);
}

std::vector<OutputSpec> infer_gradients(const CallView&) {
  return {};
}
Cost cost_gradients(const CallView& view) {
  using namespace linear_gradients_operands;
  const int64_t rows = view.input(x).shape.rows(), in_features = view.input(x).shape.row_size();
  double flops = view.has_update(d_a) ? a_flops(view, rows, in_features) : 0;
  if (view.has_update(d_weight)) flops += product_flops(rows, view.update(d_weight));
  return {flops, operand_bytes(view)};
}
int64_t workspace_gradients(const CallView& view) {
  using namespace linear_gradients_operands;
  return view.has_update(d_a) ? dropout_bytes(view, view.input(x), view.input(x).shape.row_size()) : 0;
}

void derive(DeriveContext& c) {
  using namespace linear_forward_operands;
  const OpCall& call = c.call();
  const size_t segments = call.attributes.integers("segments").size();
  const TensorId dy = c.output_gradient(0), d_weight = c.parameter_gradient(weight),
                 d_a = c.parameter_gradient(a);
  std::vector<TensorId> inputs = {dy, call.inputs[weight], call.inputs[a], call.inputs[random],
                                  call.outputs[u]};
  std::vector<TensorId> updates = {c.parameter_gradient(bias)};
  bool trains = updates[0] != kNone || d_a != kNone;
  for (size_t i = 0; i < segments; ++i) {
    inputs.push_back(call.inputs[first_b + i]);
    updates.push_back(c.parameter_gradient(first_b + i));
    trains = trains || updates.back() != kNone;
  }
  const TensorId dx = c.gradient_slot(x);
  TensorId v = kNone;
  if (dx != kNone || trains) {
    Attributes attributes = call.attributes;
    attributes.set("wants_dx", int64_t{dx != kNone});
    v = c.builder().call(linear_backward_op, call.name, inputs, attributes, updates, {dx, kNone, kNone})[1];
  }
  if (d_weight == kNone && d_a == kNone) return;
  c.defer([&b = c.builder(), name = call.name, attributes = call.attributes, input = call.inputs[x], dy, v,
           d_weight, d_a, random_state = call.inputs[random]] {
    b.call(linear_gradients_op, name,
           {input, d_weight != kNone ? dy : kNone, d_a != kNone ? v : kNone, random_state}, attributes,
           {d_weight, d_a});
  });
}

}  // namespace

const Op linear_op = {.name = "linear",
                      .infer = infer,
                      .cost = cost,
                      .derive = derive,
                      .workspace = workspace,
                      .side_columns = side_columns,
                      .run_cpu = run_linear_forward};
const Op linear_backward_op = {.name = "linear_backward",
                               .infer = infer_backward,
                               .cost = cost_backward,
                               .workspace = workspace_backward,
                               .cuda_workspace = cuda_workspace_backward,
                               .side_columns = side_columns_backward,
                               .run_cpu = run_linear_backward};
const Op linear_gradients_op = {.name = "linear_gradients",
                                .infer = infer_gradients,
                                .cost = cost_gradients,
                                .workspace = workspace_gradients,
                                .run_cpu = run_linear_gradients};

int64_t linear_side_columns(int64_t rank) {
  return (rank + 63) / 64 * 64;  // rows that begin at multiples of 128 bytes: measured best
}

TensorId linear(ProgramBuilder& b, const std::string& name, TensorId x, TensorId weight, TensorId bias,
                const std::vector<int64_t>& segments, const LinearAdapter& adapter) {
  std::vector<TensorId> inputs = {x, weight, bias, adapter.a, adapter.dropout > 0 ? adapter.random : kNone};
  for (size_t i = 0; i < segments.size(); ++i) inputs.push_back(i < adapter.b.size() ? adapter.b[i] : kNone);
  return b.call(
      linear_op, b.scoped(name), inputs,
      {{"segments", segments},
       {"ranks", adapter.ranks.empty() ? std::vector<int64_t>(segments.size(), 0) : adapter.ranks},
       {"scales", adapter.scales.empty() ? std::vector<double>(segments.size(), 0) : adapter.scales},
       {"dropout", adapter.dropout}})[0];
}

}  // namespace ops
}  // namespace serval
