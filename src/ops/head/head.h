// The output head: logits = hidden weight^T, never held whole. It works in chunks over the labelled rows.
//   hidden [T, D], weight [V, D], label_rows i32[L] (distinct rows of hidden), labels i32[L]; a count gives
//   the valid L.
//
// head_loss: for row l with weight w_l (row_weights f32[L]): loss = sum_l w_l * nll_l, nll_l = lse(logits_l)
// - logits_l[label_l].
//   Adds to the state sums f64[4]: sum of w * nll, sum of nll, rows whose largest logit is the label, rows.
//   Gives d_hidden [T, D] (zero in rows without a label) and adds d_weight where the head is trained.
// head_logprobs: log-probabilities [L] f32; its backward takes a gradient for each of them.
// logits: f32 [R, V] of the rows i32[R], for generation; no gradient.
// A logit's gradient is w (softmax - one_hot); products in the compute type, softmax in f32 (f64 in f64
// programs).
//
// On the CPU the logits of head_loss, head_logprobs and head_backward are f32 (f64) and, in bf16 programs on
// processors with bf16 products, never kept (head_tiles.h). On a GPU they are rounded once to the compute
// type: in bf16 programs a logit is within 2^-9 of its size, and so a log-probability within 2^-8 of the
// largest logit; logits that round to the same value count as equal. A label outside the vocabulary, an error
// on the CPU, gives a NaN there.
#pragma once
#include <string>

#include "program/op.h"

namespace serval::ops {

extern const Op head_loss_op, head_logprobs_op, head_backward_op, logits_op;

struct HeadLossOperands {
  TensorId hidden = kNone, weight = kNone, label_rows = kNone, labels = kNone, row_weights = kNone;
  TensorId sums = kNone;             // state f64[4]
  TensorId weight_gradient = kNone;  // state; kNone where the head is frozen
  bool wants_gradient = true;        // false: evaluation
};
void head_loss(ProgramBuilder& b, const std::string& name, const HeadLossOperands& operands);

TensorId head_logprobs(ProgramBuilder& b, const std::string& name, TensorId hidden, TensorId weight,
                       TensorId label_rows, TensorId labels);
// `target`: a state that takes the logits, so that the host can read them after the run.
TensorId logits(ProgramBuilder& b, const std::string& name, TensorId hidden, TensorId weight, TensorId rows,
                TensorId target = kNone);

}  // namespace serval::ops
