#include "ops/elementwise/elementwise.h"

#include "base/error.h"
#include "ops/common/kernel.h"
#include "program/derive.h"

namespace serval {
SERVAL_CPU_KERNEL(elementwise_add)
SERVAL_CPU_KERNEL(elementwise_accumulate)
SERVAL_CPU_KERNEL(elementwise_copy)
SERVAL_CPU_KERNEL(elementwise_zero)
SERVAL_CPU_KERNEL(elementwise_gather)

namespace ops {
namespace {

OutputSpec like(const CallView& v, const TensorDecl& decl, TensorId id) {
  return {decl.dtype, decl.shape, v.program.tensor(id).count};
}

void check_same(const TensorDecl& a, const TensorDecl& b) {
  SERVAL_CHECK(a.dtype == b.dtype && a.shape == b.shape, "'{}' {} and '{}' {}", a.name, to_string(a.shape),
               b.name, to_string(b.shape));
}

std::vector<OutputSpec> infer_add(const CallView& v) {
  check_same(v.input(0), v.input(1));
  return {like(v, v.input(0), v.call.inputs[0])};
}
std::vector<OutputSpec> infer_accumulate(const CallView& v) {
  check_same(v.input(0), v.update(0));
  return {};
}
std::vector<OutputSpec> infer_copy(const CallView& v) {
  return {like(v, v.input(0), v.call.inputs[0])};
}
// Its output always exists already: the builder checks that it fits itself.
std::vector<OutputSpec> infer_zero(const CallView&) {
  return {};
}
std::vector<OutputSpec> infer_gather(const CallView& v) {
  SERVAL_CHECK(v.input(1).dtype == DType::i32);
  return {{v.input(0).dtype, {v.input(1).shape.rows(), v.input(0).shape.row_size()}, v.input(1).count}};
}

void derive_add(DeriveContext& c) {
  c.give(0, c.output_gradient(0));
  c.give(1, c.output_gradient(0));
}

}  // namespace

const Op add_op = {.name = "add", .infer = infer_add, .derive = derive_add, .run_cpu = run_elementwise_add};
const Op accumulate_op = {
    .name = "accumulate", .infer = infer_accumulate, .run_cpu = run_elementwise_accumulate};
const Op copy_op = {.name = "copy", .infer = infer_copy, .run_cpu = run_elementwise_copy};
const Op fill_zero_op = {.name = "fill_zero", .infer = infer_zero, .run_cpu = run_elementwise_zero};
const Op gather_rows_op = {.name = "gather_rows", .infer = infer_gather, .run_cpu = run_elementwise_gather};

TensorId add(ProgramBuilder& b, const std::string& name, TensorId x, TensorId y) {
  return b.call(add_op, name, {x, y})[0];
}
void accumulate(ProgramBuilder& b, const std::string& name, TensorId target, TensorId part) {
  b.call(accumulate_op, name, {part}, {}, {target});
}
void copy(ProgramBuilder& b, const std::string& name, TensorId source, TensorId target) {
  b.call(copy_op, name, {source}, {}, {}, {target});
}
void fill_zero(ProgramBuilder& b, const std::string& name, TensorId target) {
  b.call(fill_zero_op, name, {}, {}, {target});
}
TensorId gather_rows(ProgramBuilder& b, const std::string& name, TensorId x, TensorId rows) {
  return b.call(gather_rows_op, b.scoped(name), {x, rows})[0];
}

}  // namespace ops
}  // namespace serval
