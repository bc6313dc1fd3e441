// The largest element of each row: x [R, V] (any float type) -> i32 [R], for greedy generation.
//   The lowest index wins among equals; a row that holds a NaN gives -1. No gradient.
#pragma once
#include <string>

#include "program/op.h"

namespace serval::ops {

extern const Op argmax_rows_op;

// `target`: a state that takes the indices, so that the host can read them after the run.
TensorId argmax_rows(ProgramBuilder& b, const std::string& name, TensorId x, TensorId target = kNone);

}  // namespace serval::ops
