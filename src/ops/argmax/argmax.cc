#include "ops/argmax/argmax.h"

#include "base/error.h"
#include "ops/common/kernel.h"

namespace serval {
SERVAL_CPU_KERNEL(argmax_rows)

namespace ops {
namespace {

std::vector<OutputSpec> infer(const CallView& v) {
  const TensorDecl& x = v.input(0);
  SERVAL_CHECK(x.shape.row_size() > 0 && x.shape.row_size() < INT32_MAX, "'{}'", v.call.name);
  return {{DType::i32, {x.shape.rows()}, x.count}};
}

}  // namespace

const Op argmax_rows_op = {.name = "argmax_rows", .infer = infer, .run_cpu = run_argmax_rows};

TensorId argmax_rows(ProgramBuilder& b, const std::string& name, TensorId x, TensorId target) {
  std::vector<TensorId> outputs;
  if (target != kNone) outputs.push_back(target);
  return b.call(argmax_rows_op, b.scoped(name), {x}, {}, {}, outputs)[0];
}

}  // namespace ops
}  // namespace serval
