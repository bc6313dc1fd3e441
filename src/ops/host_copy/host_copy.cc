#include "ops/host_copy/host_copy.h"

#include "base/error.h"

namespace serval {
void run_host_copy(const KernelContext& c);

namespace ops {
namespace {

std::vector<OutputSpec> infer(const CallView& v) {
  return {{v.input(0).dtype, v.input(0).shape, v.input(0).count}};
}

// The link is the bound, not the memory on either side.
Cost cost(const CallView& v) {
  return {0, static_cast<double>(v.input(0).shape.elements() * size_of(v.input(0).dtype))};
}

void check(const ProgramBuilder& b, TensorId source, TensorId target, bool to_host) {
  const TensorDecl &from = b.tensor(source), &to = b.tensor(target);
  SERVAL_CHECK(from.host == !to_host && to.host == to_host && from.dtype == to.dtype &&
                   from.shape == to.shape && from.count == to.count,
               "'{}' to '{}'", from.name, to.name);
}

}  // namespace

const Op copy_to_host_op = {.name = "copy_to_host", .infer = infer, .cost = cost, .run_cpu = run_host_copy};
const Op copy_from_host_op = {
    .name = "copy_from_host", .infer = infer, .cost = cost, .run_cpu = run_host_copy};

void copy_to_host(ProgramBuilder& b, const std::string& name, TensorId source, TensorId host) {
  check(b, source, host, true);
  b.call(copy_to_host_op, name, {source}, {}, {}, {host});
}
void copy_from_host(ProgramBuilder& b, const std::string& name, TensorId host, TensorId target) {
  check(b, host, target, false);
  b.call(copy_from_host_op, name, {host}, {}, {}, {target});
}

}  // namespace ops
}  // namespace serval
