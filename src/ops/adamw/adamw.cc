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

// inputs: hyper, stats, random?; updates: parameter, m, v, gradient, copy? of each tensor
constexpr size_t kUpdates = 5;
std::vector<OutputSpec> infer_adamw(const CallView& v) {
  SERVAL_CHECK(v.call.updates.size() % kUpdates == 0, "'{}'", v.call.name);
  check_adamw_inputs(v, v.call.updates.size() / kUpdates);
  for (size_t first = 0; first < v.call.updates.size(); first += kUpdates) {
    const TensorDecl &parameter = v.update(first), &moment = v.update(first + 1),
                     &gradient = v.update(first + 3);
    for (const size_t i : {first + 1, first + 2, first + 3})
      SERVAL_CHECK(v.update(i).shape == parameter.shape, "'{}' of '{}'", v.call.name, parameter.name);
    const auto fits = [&](DType dtype) {
      return dtype == gradient.dtype || (dtype == DType::bf16 && gradient.dtype == DType::f32);
    };
    SERVAL_CHECK((gradient.dtype == DType::f32 || gradient.dtype == DType::f64) && fits(parameter.dtype) &&
                     fits(moment.dtype) && v.update(first + 2).dtype == moment.dtype,
                 "'{}' of '{}'", v.call.name, parameter.name);
    SERVAL_CHECK(!v.has_update(first + 4) ||
                     (v.update(first + 4).shape == parameter.shape && parameter.dtype == gradient.dtype &&
                      v.update(first + 4).dtype != DType::f64),
                 "'{}' of '{}'", v.call.name, parameter.name);
  }
  return {};
}
// Everything is read and written, a copy only written.
Cost cost_adamw(const CallView& v) {
  Cost cost;
  for (size_t i = 0; i < v.call.updates.size(); ++i) {
    if (!v.has_update(i)) continue;
    const TensorDecl& decl = v.update(i);
    const auto elements = static_cast<double>(decl.shape.elements());
    const bool copy = i % kUpdates == kUpdates - 1;
    cost.bytes += (copy ? 1 : 2) * elements * static_cast<double>(size_of(decl.dtype));
    if (i % kUpdates == 0) cost.flops += 14 * elements;
  }
  return cost;
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

Attributes adamw_attributes(const AdamWSettings& s) {
  return {{"beta1", s.beta1}, {"beta2", s.beta2}, {"eps", s.eps}, {"weight_decay", s.weight_decay}};
}

std::vector<TensorId> adamw_inputs(TensorId hyper, TensorId stats, TensorId random) {
  return random == kNone ? std::vector<TensorId>{hyper, stats} : std::vector<TensorId>{hyper, stats, random};
}

void check_adamw_inputs(const CallView& v, size_t tensors) {
  for (const size_t i : {0, 1})
    SERVAL_CHECK(v.input(i).dtype == DType::f64 && v.input(i).shape.elements() == 2, "'{}'", v.call.name);
  if (!v.has_input(2)) return;
  SERVAL_CHECK(v.input(2).dtype == DType::i64 && v.input(2).shape.elements() == 3 &&
                   v.attributes().integers("streams").size() == tensors,
               "'{}'", v.call.name);
}

void adamw(ProgramBuilder& b, const std::string& name, const std::vector<AdamWOperands>& tensors,
           TensorId hyper, TensorId stats, const AdamWSettings& settings, TensorId random) {
  std::vector<TensorId> updates;
  std::vector<int64_t> streams;
  updates.reserve(tensors.size() * kUpdates);
  for (const AdamWOperands& o : tensors) {
    updates.insert(updates.end(), {o.parameter, o.m, o.v, o.gradient, o.copy});
    streams.push_back(static_cast<int64_t>(o.stream));
  }
  Attributes attributes = adamw_attributes(settings);
  if (random != kNone) attributes.set("streams", streams);
  b.call(adamw_op, name, adamw_inputs(hyper, stats, random), attributes, updates);
}

void adamw(ProgramBuilder& b, const std::string& name, const AdamWOperands& tensor, TensorId hyper,
           TensorId stats, const AdamWSettings& s, TensorId random) {
  adamw(b, name, std::vector<AdamWOperands>{tensor}, hyper, stats, s, random);
}

}  // namespace ops
}  // namespace serval
