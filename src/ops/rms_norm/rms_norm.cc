#include "ops/rms_norm/rms_norm.h"

#include "base/error.h"
#include "ops/common/kernel.h"
#include "ops/rms_norm/rms_norm_cuda.h"
#include "program/derive.h"

namespace serval {
SERVAL_CPU_KERNEL(rms_norm_forward)
SERVAL_CPU_KERNEL(rms_norm_backward)

namespace ops {
namespace {

// inputs: x, weight, branch?; outputs: y, sum?
std::vector<OutputSpec> infer(const CallView& v) {
  const TensorDecl& x = v.input(0);
  SERVAL_CHECK(v.input(1).shape.elements() == x.shape.row_size() && v.input(1).dtype == x.dtype,
               "weight of '{}'", v.call.name);
  SERVAL_CHECK(!v.has_input(2) || (v.input(2).shape == x.shape && v.input(2).dtype == x.dtype),
               "branch of '{}'", v.call.name);
  return {{x.dtype, x.shape, x.count}, {x.dtype, x.shape, x.count, ".sum", !v.has_input(2)}};
}

Cost cost(const CallView& v) {
  const double elements = static_cast<double>(v.input(0).shape.elements());
  return {4 * elements, elements * static_cast<double>(size_of(v.input(0).dtype)) * (v.has_input(2) ? 4 : 2)};
}

// inputs: dy, s, weight, d_sum?; updates: d_weight?; outputs: ds
std::vector<OutputSpec> infer_backward(const CallView& v) {
  return {{v.input(1).dtype, v.input(1).shape, v.input(1).count, ".gradient"}, {.absent = true}};
}
Cost cost_backward(const CallView& v) {
  const double elements = static_cast<double>(v.input(1).shape.elements());
  return {8 * elements, elements * static_cast<double>(size_of(v.input(1).dtype)) * (v.has_input(3) ? 4 : 3)};
}
int64_t workspace_backward(const CallView& v) {
  return v.has_update(0) ? v.input(1).shape.rows() * static_cast<int64_t>(sizeof(double)) : 0;
}
int64_t cuda_workspace_backward(const CallView& v) {
  if (!v.has_update(0)) return 0;
  return norm_backward_numbers(v.input(1).shape.rows(), v.input(1).shape.row_size()) *
         static_cast<int64_t>(sizeof(float));
}

void derive(DeriveContext& c) {
  const OpCall& call = c.call();
  const bool fused = call.inputs.size() > 2 && call.inputs[2] != kNone;
  const TensorId s = fused ? call.outputs[1] : call.inputs[0];
  const TensorId dy = c.output_gradient(0), d_sum = fused ? c.output_gradient(1) : kNone;
  if (dy == kNone) {  // only the sum goes on
    c.give(0, d_sum);
    c.give(2, d_sum);
    return;
  }
  // The sum passes one gradient to both of its terms.
  const size_t first = c.wants(0) ? 0 : 2;
  TensorId ds = c.gradient_slot(first);
  const TensorId weight_gradient = c.parameter_gradient(1);
  if (ds == kNone && weight_gradient == kNone) return;
  ds = c.builder().call(rms_norm_backward_op, call.name, {dy, s, call.inputs[1], d_sum}, call.attributes,
                        {weight_gradient}, {ds, kNone})[0];
  if (fused && first == 0) c.give(2, ds);
}

TensorId recompute(ProgramBuilder& b, const OpCall& call, size_t index) {
  if (index != 0 || call.outputs[1] == kNone) return kNone;
  return b.call(rms_norm_op, call.name, {call.outputs[1], call.inputs[1]}, call.attributes)[0];
}

}  // namespace

const Op rms_norm_op = {.name = "rms_norm",
                        .infer = infer,
                        .cost = cost,
                        .derive = derive,
                        .cheap_outputs = 1,
                        .recompute = recompute,
                        .backward = &rms_norm_backward_op,
                        .byproduct = 1,
                        .run_cpu = run_rms_norm_forward};
const Op rms_norm_backward_op = {.name = "rms_norm_backward",
                                 .infer = infer_backward,
                                 .cost = cost_backward,
                                 .workspace = workspace_backward,
                                 .cuda_workspace = cuda_workspace_backward,
                                 .run_cpu = run_rms_norm_backward};

TensorId rms_norm(ProgramBuilder& b, const std::string& name, TensorId x, TensorId weight, double eps) {
  return b.call(rms_norm_op, b.scoped(name), {x, weight}, {{"eps", eps}})[0];
}

NormedResidual residual_rms_norm(ProgramBuilder& b, const std::string& name, TensorId x, TensorId branch,
                                 TensorId weight, double eps) {
  const auto out = b.call(rms_norm_op, b.scoped(name), {x, weight, branch}, {{"eps", eps}});
  return {out[0], out[1]};
}

}  // namespace ops
}  // namespace serval
