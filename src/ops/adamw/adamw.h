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
//   and gradient of one tensor are of one shape and f32 (f64 in f64 programs); the parameter may be bf16, m
//   and v together too: they are rounded after the step, which computes in f32. Rows lie densely, but those
//   of the parameter and of the copy may be apart.
//   With `random` (i64[3] seed, step, micro-step) a bf16 parameter and a bf16 v are rounded stochastically:
//   an element's word is Philox(seed, the tensor's stream, step, micro-step, element). v needs it where b2 is
//   near 1: it then changes by less than half a step of bf16, so to nearest it would stand still.
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
  uint64_t stream = 0;    // of its random numbers: stable_hash(name)
};
void adamw(ProgramBuilder& b, const std::string& name, const std::vector<AdamWOperands>& tensors,
           TensorId hyper, TensorId stats, const AdamWSettings& settings, TensorId random = kNone);
// Of one tensor.
void adamw(ProgramBuilder& b, const std::string& name, const AdamWOperands& tensor, TensorId hyper,
           TensorId stats, const AdamWSettings& settings, TensorId random = kNone);
// Attributes and inputs of a call, which ops that step in other types share.
Attributes adamw_attributes(const AdamWSettings& settings);
std::vector<TensorId> adamw_inputs(TensorId hyper, TensorId stats, TensorId random);
void check_adamw_inputs(const CallView& call, size_t tensors);

}  // namespace serval::ops
