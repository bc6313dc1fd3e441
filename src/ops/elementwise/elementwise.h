// Small ops on whole tensors, which passes insert: sums of gradients, copies, zeros; and the gathering of
// rows. All take f64, f32 or bf16 tensors of equal shape; rows past the count are not touched.
#pragma once
#include <string>

#include "program/op.h"

namespace serval::ops {

extern const Op add_op, accumulate_op, copy_op, fill_zero_op, gather_rows_op;

// a + b, a new tensor.
TensorId add(ProgramBuilder& b, const std::string& name, TensorId x, TensorId y);
// target += part.
void accumulate(ProgramBuilder& b, const std::string& name, TensorId target, TensorId part);
// target = source; both exist.
void copy(ProgramBuilder& b, const std::string& name, TensorId source, TensorId target);
void fill_zero(ProgramBuilder& b, const std::string& name, TensorId target);
// x[rows], [R, D] of x [T, D] and rows i32[R]. No gradient: it serves evaluation and generation.
TensorId gather_rows(ProgramBuilder& b, const std::string& name, TensorId x, TensorId rows);

}  // namespace serval::ops
