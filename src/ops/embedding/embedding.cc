#include "ops/embedding/embedding.h"

#include "base/error.h"
#include "ops/common/kernel.h"
#include "program/derive.h"

namespace serval {
SERVAL_CPU_KERNEL(embedding_forward)
SERVAL_CPU_KERNEL(embedding_backward)

namespace ops {
namespace {

std::vector<OutputSpec> infer(const CallView& v) {
  SERVAL_CHECK(v.input(0).dtype == DType::i32);
  return {{v.input(1).dtype, {v.input(0).shape.rows(), v.input(1).shape.row_size()}, v.input(0).count}};
}
Cost cost(const CallView& v) {
  return {0, 2.0 * static_cast<double>(v.output(0).shape.elements() * size_of(v.output(0).dtype))};
}
std::vector<OutputSpec> infer_backward(const CallView& v) {
  SERVAL_CHECK(v.update(0).shape.row_size() == v.input(1).shape.row_size());
  return {};
}
Cost cost_backward(const CallView& v) {
  const double elements = static_cast<double>(v.input(1).shape.elements());
  return {elements,
          elements * static_cast<double>(size_of(v.input(1).dtype) + 2 * size_of(v.update(0).dtype))};
}
void derive(DeriveContext& c) {
  const TensorId gradient = c.parameter_gradient(1);
  if (gradient == kNone) return;
  c.builder().call(embedding_backward_op, c.call().name, {c.call().inputs[0], c.output_gradient(0)}, {},
                   {gradient});
}

}  // namespace

const Op embedding_op = {
    .name = "embedding", .infer = infer, .cost = cost, .derive = derive, .run_cpu = run_embedding_forward};
const Op embedding_backward_op = {.name = "embedding_backward",
                                  .infer = infer_backward,
                                  .cost = cost_backward,
                                  .run_cpu = run_embedding_backward};

TensorId embedding(ProgramBuilder& b, const std::string& name, TensorId ids, TensorId weight) {
  return b.call(embedding_op, b.scoped(name), {ids, weight})[0];
}

}  // namespace ops
}  // namespace serval
