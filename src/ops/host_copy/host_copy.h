// Copies between a tensor of the device and one in pinned host memory (TensorDecl::host), of equal type and
// shape: target = source. A pass puts them into a program as a start and a wait, so that they run beside
// other work. On a GPU, where the host does not know the count, all rows of the capacity are copied; on the
// CPU the valid ones, and the rest of the target is not touched. No gradient.
//
//   const TensorId far = b.temporary("x.host", dtype, shape, count);
//   b.program().tensor(far).host = true;
//   ops::copy_to_host(b, "x.to_host", x, far);
//   ops::copy_from_host(b, "x.from_host", far, near);
#pragma once
#include <string>

#include "program/op.h"

namespace serval::ops {

extern const Op copy_to_host_op, copy_from_host_op;

void copy_to_host(ProgramBuilder& b, const std::string& name, TensorId source, TensorId host);
void copy_from_host(ProgramBuilder& b, const std::string& name, TensorId host, TensorId target);

}  // namespace serval::ops
