// What an optimizer step is made of.
//
// gradient_norm: the norm of all gradients together and the factor that clips it
// (torch.nn.utils.clip_grad_norm_):
//   stats f64[2] = {norm, min(1, max_norm / (norm + 1e-6))}, or a factor of 1 with max_norm <= 0.
// adamw (Loshchilov & Hutter, "Decoupled weight decay regularization", 2019), as torch.optim.AdamW computes
// it:
//   g = gradient * factor;  p *= 1 - lr * weight_decay;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   p -= lr / (1-b1^t) * m / (sqrt(v) / sqrt(1-b2^t) + eps);  then gradient = 0, and copy = p in the compute
//   type. hyper f64[2] = {lr, t}. One call takes all tensors that share their settings. The parameter, m, v
//   and gradient of one tensor are f32 (f64 in f64 programs) and of one shape; rows lie densely, but those of
//   the copy may be apart.
#pragma once
#include <string>
#include <vector>

#include "program/op.h"

namespace serval::ops {

extern const Op gradient_norm_op, adamw_op;

void gradient_norm(ProgramBuilder& b, const std::string& name, const std::vector<TensorId>& gradients,
                   double max_norm, TensorId stats);

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};
struct AdamWOperands {
  TensorId parameter = kNone, m = kNone, v = kNone, gradient = kNone;
  TensorId copy = kNone;  // the compute-type copy; kNone where the parameter itself is used
};
void adamw(ProgramBuilder& b, const std::string& name, const std::vector<AdamWOperands>& tensors,
           TensorId hyper, TensorId stats, const AdamWSettings& settings);
// Of one tensor.
void adamw(ProgramBuilder& b, const std::string& name, const AdamWOperands& tensor, TensorId hyper,
           TensorId stats, const AdamWSettings& settings);

}  // namespace serval::ops
