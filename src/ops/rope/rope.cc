#include "ops/rope/rope.h"

#include <algorithm>

#include "base/error.h"
#include "ops/common/kernel.h"
#include "ops/rope/rope_cuda.h"
#include "program/derive.h"

namespace serval {
SERVAL_CPU_KERNEL(rope_table)
SERVAL_CPU_KERNEL(qk_norm_rope_forward)
SERVAL_CPU_KERNEL(qk_norm_rope_backward)

namespace ops {
namespace {

std::vector<OutputSpec> infer_table(const CallView& v) {
  SERVAL_CHECK(v.input(0).dtype == DType::i32);
  const int64_t half = static_cast<int64_t>(v.attributes().numbers("inverse_frequency").size());
  const DType dtype = v.attributes().integer_or("f64", 0) != 0 ? DType::f64 : DType::f32;
  const Shape shape{v.input(0).shape.rows(), half};
  return {{dtype, shape, v.input(0).count, ".cos"}, {dtype, shape, v.input(0).count, ".sin"}};
}

// inputs: q, k, cos, sin, q_norm?, k_norm?
std::vector<OutputSpec> infer(const CallView& v) {
  const int64_t head_dim = v.attributes().integer("head_dim");
  SERVAL_CHECK(head_dim > 0 && head_dim <= kMaxRopeHeadDim, "'{}'", v.call.name);
  for (const size_t i : {0, 1})
    SERVAL_CHECK(v.input(i).shape.row_size() % head_dim == 0 && v.input(2).shape.row_size() * 2 <= head_dim);
  return {{v.input(0).dtype, v.input(0).shape, v.input(0).count, ".q"},
          {v.input(1).dtype, v.input(1).shape, v.input(1).count, ".k"}};
}
Cost cost(const CallView& v) {
  const double elements = static_cast<double>(v.input(0).shape.elements() + v.input(1).shape.elements());
  return {8 * elements, 2 * elements * static_cast<double>(size_of(v.input(0).dtype))};
}

// inputs: dq', dk', q, k, cos, sin, q_norm?, k_norm?; updates: d_q_norm?, d_k_norm?; outputs: dq, dk
std::vector<OutputSpec> infer_backward(const CallView& v) {
  return {{v.input(2).dtype, v.input(2).shape, v.input(2).count, ".q_gradient"},
          {v.input(3).dtype, v.input(3).shape, v.input(3).count, ".k_gradient"}};
}
Cost cost_backward(const CallView& v) {
  const double elements = static_cast<double>(v.input(0).shape.elements() + v.input(1).shape.elements());
  return {16 * elements, 3 * elements * static_cast<double>(size_of(v.input(0).dtype))};
}
// A trained norm weight needs its gradient row by row before it is summed in order.
int64_t workspace_backward(const CallView& v) {
  if (!v.has_update(0) && !v.has_update(1)) return 0;
  return v.input(0).shape.rows() * v.attributes().integer("head_dim") * 2 *
         static_cast<int64_t>(sizeof(double));
}
int64_t cuda_workspace_backward(const CallView& v) {
  if (!v.has_update(0) && !v.has_update(1)) return 0;
  return rope_backward_numbers(v.input(0).shape.rows(), v.attributes().integer("head_dim")) *
         static_cast<int64_t>(sizeof(float));
}

void derive(DeriveContext& c) {
  const OpCall& call = c.call();
  const TensorId dq_out = c.output_gradient(0), dk_out = c.output_gradient(1);
  SERVAL_CHECK(dq_out != kNone && dk_out != kNone);
  const TensorId dq = c.gradient_slot(0), dk = c.gradient_slot(1);
  if (dq == kNone && dk == kNone && c.parameter_gradient(4) == kNone && c.parameter_gradient(5) == kNone)
    return;
  std::vector<TensorId> inputs = {dq_out, dk_out};
  inputs.insert(inputs.end(), call.inputs.begin(), call.inputs.end());
  c.builder().call(qk_norm_rope_backward_op, call.name, inputs, call.attributes,
                   {c.parameter_gradient(4), c.parameter_gradient(5)}, {dq, dk});
}

}  // namespace

const Op rope_table_op = {.name = "rope_table", .infer = infer_table, .run_cpu = run_rope_table};
const Op qk_norm_rope_op = {.name = "qk_norm_rope",
                            .infer = infer,
                            .cost = cost,
                            .derive = derive,
                            .cheap_outputs = 3,
                            .run_cpu = run_qk_norm_rope_forward};
const Op qk_norm_rope_backward_op = {.name = "qk_norm_rope_backward",
                                     .infer = infer_backward,
                                     .cost = cost_backward,
                                     .workspace = workspace_backward,
                                     .cuda_workspace = cuda_workspace_backward,
                                     .run_cpu = run_qk_norm_rope_backward};

RopeTable rope_table(ProgramBuilder& b, const std::string& name, TensorId positions,
                     const std::vector<double>& inverse_frequency, double attention_scaling,
                     DType compute_dtype) {
  const auto out = b.call(rope_table_op, b.scoped(name), {positions},
                          {{"inverse_frequency", inverse_frequency},
                           {"scaling", attention_scaling},
                           {"f64", int64_t{compute_dtype == DType::f64}}});
  return {out[0], out[1]};
}

RotatedQk qk_norm_rope(ProgramBuilder& b, const std::string& name, TensorId q, TensorId k, RopeTable table,
                       const QkRopeOptions& options) {
  const auto out = b.call(
      qk_norm_rope_op, b.scoped(name), {q, k, table.cos, table.sin, options.q_norm, options.k_norm},
      {{"head_dim", options.head_dim}, {"interleaved", int64_t{options.interleaved}}, {"eps", options.eps}});
  return {out[0], out[1]};
}

}  // namespace ops
}  // namespace serval
