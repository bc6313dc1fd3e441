// A linear layer with one input and several output segments (q, k, v; gate, up), each with its own optional
// low-rank adapter (Hu et al., "LoRA", 2021), frozen or trained: one product of the frozen weight for all
// segments.
//   x [T, K], weight [N, K] (segments stacked: N = sum of n_i), bias [N] optional
//   adapter: A [R, K] (rows of the adapted segments stacked: R = sum of r_i), B_i [n_i, r_i] for each segment
//   with r_i > 0 y [T, N]:  y_i = x W_i^T + bias_i + u_i B_i^T,   u_i = s_i dropout_i(x) A_i^T;   u [T, R] is
//   kept for backward. dropout_i(x) = x * mask / (1 - p), the mask drawn from Philox(seed, "<name>.<i>",
//   step, micro_step, element).
// Gradients, with v_i = s_i dy_i B_i:
//   dx = dy W + sum_i dropout_i^T(v_i A_i),  dA_i += v_i^T dropout_i(x),  dB_i += dy_i^T u_i,
//   dW += dy^T x,  d_bias += column sums of dy. Parameter gradients are added to f32 states (f64 in f64
//   programs).
//
// On a GPU the adapter lies beside and below the weight, in one storage [N + S, K + S] of which W is the
// corner [N, K], B_i stands in row i's columns from K on, and A in the rows from N on; the rest is zero. x
// has S columns beside its rows, which take u_i, and dy has S columns for v: then y = [x | u] [W | B]^T and
// dx = [dy | v] [W ; A] are one product each. On a CPU the same sums are a product with low-rank terms
// (gemm.h).
#pragma once
#include <string>
#include <vector>

#include "program/op.h"

namespace serval::ops {

// linear_backward gives dx and v and adds to d_bias and dB; linear_gradients, which alone needs x, adds to dW
// and dA. It runs after the derivative of what produced x.
extern const Op linear_op, linear_backward_op, linear_gradients_op;

struct LinearAdapter {
  TensorId a = kNone;          // [R, K]; kNone: no segment is adapted
  std::vector<TensorId> b;     // one a segment, kNone where it has none
  std::vector<int64_t> ranks;  // one a segment, 0 where it has none
  std::vector<double> scales;  // one a segment
  double dropout = 0;
  TensorId random = kNone;  // input i64[3]: seed, step, micro-step; needed with dropout
};

// S for a stacked rank R: 0 without an adapter.
int64_t linear_side_columns(int64_t rank);

// Returns y [T, N]; take segments with ProgramBuilder::columns.
TensorId linear(ProgramBuilder& b, const std::string& name, TensorId x, TensorId weight, TensorId bias,
                const std::vector<int64_t>& segments, const LinearAdapter& adapter = {});

}  // namespace serval::ops
