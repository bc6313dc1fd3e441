// RMSNorm with an optional fused residual add (Zhang & Sennrich, "Root mean square layer normalization",
// 2019):
//   s = x + branch (rounded to the tensors' dtype),  y = s / sqrt(mean(s^2) + eps) * weight
//   x, branch, y, s: [T, D]; weight [D]. Sums in f32 (f64 for f64), one rounding of y.
// Gradient, with n = s * r, r = 1 / sqrt(mean(s^2) + eps), g = dy * weight:
//   ds = r * (g - n * mean(g * n)) + d_sum,   d_weight += sum over rows of dy * n
// y is never kept for backward: it is computed again from s, by the backward call where it is wanted.
#pragma once
#include <string>

#include "program/op.h"

namespace serval::ops {

extern const Op rms_norm_op, rms_norm_backward_op;

TensorId rms_norm(ProgramBuilder& b, const std::string& name, TensorId x, TensorId weight, double eps);

struct NormedResidual {
  TensorId y = kNone, sum = kNone;
};
NormedResidual residual_rms_norm(ProgramBuilder& b, const std::string& name, TensorId x, TensorId branch,
                                 TensorId weight, double eps);

}  // namespace serval::ops
