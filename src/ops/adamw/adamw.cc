#include "ops/adamw/adamw.h"

#include "base/error.h"
#include "ops/common/kernel.h"

namespace serval {
SERVAL_CPU_KERNEL(gradient_norm)
SERVAL_CPU_KERNEL(adamw_step)

namespace ops {
namespace {

// inputs: gradients...; updates: stats
std::vector<OutputSpec> infer_norm(const CallView& v) {
  SERVAL_CHECK(v.update(0).dtype == DType::f64 && v.update(0).shape.elements() == 2);
  return {};
}
Cost cost_norm(const CallView& v) {
  double elements = 0;
  for (const TensorId id : v.call.inputs)
    elements += static_cast<double>(v.program.tensor(id).shape.elements());
  return {2 * elements, 4 * elements};
}
// A partial sum for each block of each gradient.
int64_t workspace_norm(const CallView& v) {
  int64_t blocks = 0;
  for (const TensorId id : v.call.inputs) blocks += (v.program.tensor(id).shape.elements() + 16383) / 16384;
  return blocks * 8;
}

// inputs: hyper, stats; updates: parameter, m, v, gradient, copy?
std::vector<OutputSpec> infer_adamw(const CallView& v) {
  for (const size_t i : {1, 2, 3})
    SERVAL_CHECK(v.update(i).shape == v.update(0).shape && v.update(i).dtype == v.update(0).dtype, "'{}'",
                 v.call.name);
  SERVAL_CHECK(
      !v.has_update(4) || (v.update(4).shape == v.update(0).shape && v.update(4).dtype != DType::f64), "'{}'",
      v.call.name);
  return {};
}
Cost cost_adamw(const CallView& v) {
  const double elements = static_cast<double>(v.update(0).shape.elements());
  return {14 * elements, 32 * elements};
}

}  // namespace

const Op gradient_norm_op = {.name = "gradient_norm",
                             .infer = infer_norm,
                             .cost = cost_norm,
                             .workspace = workspace_norm,
                             .run_cpu = run_gradient_norm};
const Op adamw_op = {.name = "adamw", .infer = infer_adamw, .cost = cost_adamw, .run_cpu = run_adamw_step};

void gradient_norm(ProgramBuilder& b, const std::string& name, const std::vector<TensorId>& gradients,
                   double max_norm, TensorId stats) {
  b.call(gradient_norm_op, name, gradients, {{"max_norm", max_norm}}, {stats});
}

void adamw(ProgramBuilder& b, const std::string& name, const AdamWOperands& o, TensorId hyper, TensorId stats,
           const AdamWSettings& s) {
  b.call(adamw_op, name, {hyper, stats},
         {{"beta1", s.beta1}, {"beta2", s.beta2}, {"eps", s.eps}, {"weight_decay", s.weight_decay}},
         {o.parameter, o.m, o.v, o.gradient, o.copy});
}

}  // namespace ops
}  // namespace serval
