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
// A partial sum for each block of 16384 elements of each gradient, on every device.
int64_t workspace_norm(const CallView& v) {
  int64_t blocks = 0;
  for (const TensorId id : v.call.inputs) blocks += (v.program.tensor(id).shape.elements() + 16383) / 16384;
  return blocks * 8;
}

// inputs: hyper, stats; updates: parameter, m, v, gradient, copy? of each tensor
constexpr size_t kUpdates = 5;
std::vector<OutputSpec> infer_adamw(const CallView& v) {
  SERVAL_CHECK(v.call.updates.size() % kUpdates == 0, "'{}'", v.call.name);
  for (size_t first = 0; first < v.call.updates.size(); first += kUpdates) {
    const TensorDecl& parameter = v.update(first);
    for (const size_t i : {first + 1, first + 2, first + 3})
      SERVAL_CHECK(v.update(i).shape == parameter.shape && v.update(i).dtype == parameter.dtype,
                   "'{}' of '{}'", v.call.name, parameter.name);
    SERVAL_CHECK(!v.has_update(first + 4) || (v.update(first + 4).shape == parameter.shape &&
                                              v.update(first + 4).dtype != DType::f64),
                 "'{}' of '{}'", v.call.name, parameter.name);
  }
  return {};
}
Cost cost_adamw(const CallView& v) {
  double elements = 0;
  for (size_t i = 0; i < v.call.updates.size(); i += kUpdates)
    elements += static_cast<double>(v.update(i).shape.elements());
  return {14 * elements, 32 * elements};
}
// The factors of one step.
int64_t cuda_workspace_adamw(const CallView&) {
  return 64;
}

}  // namespace

const Op gradient_norm_op = {.name = "gradient_norm",
                             .infer = infer_norm,
                             .cost = cost_norm,
                             .workspace = workspace_norm,
                             .run_cpu = run_gradient_norm};
const Op adamw_op = {.name = "adamw",
                     .infer = infer_adamw,
                     .cost = cost_adamw,
                     .cuda_workspace = cuda_workspace_adamw,
                     .run_cpu = run_adamw_step};

void gradient_norm(ProgramBuilder& b, const std::string& name, const std::vector<TensorId>& gradients,
                   double max_norm, TensorId stats) {
  b.call(gradient_norm_op, name, gradients, {{"max_norm", max_norm}}, {stats});
}

void adamw(ProgramBuilder& b, const std::string& name, const std::vector<AdamWOperands>& tensors,
           TensorId hyper, TensorId stats, const AdamWSettings& s) {
  std::vector<TensorId> updates;
  updates.reserve(tensors.size() * kUpdates);
  for (const AdamWOperands& o : tensors)
    updates.insert(updates.end(), {o.parameter, o.m, o.v, o.gradient, o.copy});
  b.call(adamw_op, name, {hyper, stats},
         {{"beta1", s.beta1}, {"beta2", s.beta2}, {"eps", s.eps}, {"weight_decay", s.weight_decay}}, updates);
}

void adamw(ProgramBuilder& b, const std::string& name, const AdamWOperands& tensor, TensorId hyper,
           TensorId stats, const AdamWSettings& s) {
  adamw(b, name, std::vector<AdamWOperands>{tensor}, hyper, stats, s);
}

}  // namespace ops
}  // namespace serval
