#include "ops/swiglu/swiglu.h"

#include "base/error.h"
#include "ops/common/kernel.h"
#include "program/derive.h"

namespace serval {
SERVAL_CPU_KERNEL(swiglu_forward)
SERVAL_CPU_KERNEL(swiglu_backward)

namespace ops {
namespace {

std::vector<OutputSpec> infer(const CallView& v) {
  const TensorDecl& x = v.input(0);
  SERVAL_CHECK(x.shape.row_size() % 2 == 0);
  return {{x.dtype, {x.shape.rows(), x.shape.row_size() / 2}, x.count}};
}
Cost cost(const CallView& v) {
  const double elements = static_cast<double>(v.output(0).shape.elements());
  return {8 * elements, 3 * elements * static_cast<double>(size_of(v.output(0).dtype))};
}
std::vector<OutputSpec> infer_backward(const CallView& v) {
  return {{v.input(1).dtype, v.input(1).shape, v.input(1).count, ".gradient"}, {.absent = true}};
}
Cost cost_backward(const CallView& v) {
  const double elements = static_cast<double>(v.input(0).shape.elements());
  return {14 * elements, 5 * elements * static_cast<double>(size_of(v.input(0).dtype))};
}
void derive(DeriveContext& c) {
  const TensorId dx = c.gradient_slot(0);
  if (dx != kNone)
    c.builder().call(swiglu_backward_op, c.call().name, {c.output_gradient(0), c.call().inputs[0]}, {}, {},
                     {dx, kNone});
}

}  // namespace

const Op swiglu_op = {.name = "swiglu",
                      .infer = infer,
                      .cost = cost,
                      .derive = derive,
                      .cheap_outputs = 1,
                      .backward = &swiglu_backward_op,
                      .byproduct = 1,
                      .run_cpu = run_swiglu_forward};
const Op swiglu_backward_op = {.name = "swiglu_backward",
                               .infer = infer_backward,
                               .cost = cost_backward,
                               .run_cpu = run_swiglu_backward};

TensorId swiglu(ProgramBuilder& b, const std::string& name, TensorId gate_up) {
  return b.call(swiglu_op, b.scoped(name), {gate_up})[0];
}

}  // namespace ops
}  // namespace serval
