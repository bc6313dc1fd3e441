// The order of the operands of the linear op's calls, and the small kernels that its CPU code is made of.
#pragma once
#include <cstdint>

#include "tensor/operand.h"

namespace serval {

namespace linear_forward_operands {
enum Input { x, weight, bias, a, random, first_b };
enum Output { y, u, x_side };
}  // namespace linear_forward_operands

namespace linear_backward_operands {
enum Input { dy, x, weight, a, random, u, first_b };
enum Update { d_weight, d_bias, d_a, first_d_b };
enum Output { dx, dy_side };
}  // namespace linear_backward_operands

// Scratch bytes of the backward call: v of all segments, then a dropped-out copy of x (or of a dx part).
inline int64_t linear_backward_scratch(int64_t rows, int64_t rank, int64_t in_features, double dropout,
                                       int64_t element_size) {
  const int64_t v = rows * rank * element_size,
                copy = dropout > 0 && rank > 0 ? rows * in_features * element_size : 0;
  return ((v + 63) / 64 * 64 + copy + 255) / 256 * 256;
}

// out[t, :] = x[t, :] * mask / (1 - p), or out += x * mask / (1 - p).
struct DropoutArgs {
  const Operand* x = nullptr;
  void* out = nullptr;
  int64_t out_stride = 0;
  bool accumulate = false;
  double p = 0;
  const int64_t* random = nullptr;  // seed, step, micro-step
  uint64_t name_hash = 0;
};

// target[j] += sum over rows of dy[:, j], in the order of the rows.
struct ColumnSumsArgs {
  const Operand& dy;
  const Operand& target;
};

}  // namespace serval
