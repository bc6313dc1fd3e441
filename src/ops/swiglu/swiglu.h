// SwiGLU (Shazeer, "GLU variants improve transformer", 2020): y = silu(gate) * up, silu(x) = x / (1 + e^-x).
//   gate_up [T, 2 I]: gate in the first I columns, up in the others; y [T, I].
// Gradient, with s = 1 / (1 + e^-gate): d_gate = dy * up * s * (1 + gate * (1 - s)), d_up = dy * gate * s.
// y is never kept for backward; the backward call gives it again where it is wanted.
#pragma once
#include <string>

#include "program/op.h"

namespace serval::ops {

extern const Op swiglu_op, swiglu_backward_op;

TensorId swiglu(ProgramBuilder& b, const std::string& name, TensorId gate_up);

}  // namespace serval::ops
