// Embedding: y[t] = weight[ids[t]].
//   ids i32[T], weight [V, D] -> y [T, D] in the weight's dtype.
//   Gradient: d_weight[v] += sum over t with ids[t] = v of dy[t], added in the order of t (deterministic).
// An id outside [0, V) is a broken invariant: the data side checks ids against the vocabulary.
#pragma once
#include <string>

#include "program/op.h"

namespace serval::ops {

extern const Op embedding_op, embedding_backward_op;

TensorId embedding(ProgramBuilder& b, const std::string& name, TensorId ids, TensorId weight);

}  // namespace serval::ops
