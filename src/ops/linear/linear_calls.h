// The order of the operands of the linear op's calls, and the small kernels that its CPU code is made of.
#pragma once
#include <cstdint>
#include <vector>

#include "program/kernel_context.h"

namespace serval {

namespace linear_forward_operands {
enum Input { x, weight, bias, a, random, first_b };
enum Output { y, u, x_side };
}  // namespace linear_forward_operands

namespace linear_backward_operands {
enum Input { dy, weight, a, random, u, first_b };
enum Update { d_bias, first_d_b };
enum Output { dx, v, dy_side };
}  // namespace linear_backward_operands

namespace linear_gradients_operands {
enum Input { x, dy, v, random };  // dy where the weight trains, v where A does
enum Update { d_weight, d_a };
}  // namespace linear_gradients_operands

// One adapted segment: its place among the outputs and in the stacked adapter.
struct AdaptedSegment {
  int index = 0;
  int64_t column = 0, size = 0, rank_begin = 0, rank = 0;
  double scale = 0;
  uint64_t name_hash = 0;  // of the random numbers
};
std::vector<AdaptedSegment> adapted_segments(const KernelContext& c);
inline bool equal_scales(const std::vector<AdaptedSegment>& segments) {
  for (const AdaptedSegment& s : segments)
    if (s.scale != segments[0].scale) return false;
  return true;
}

// An element is kept when its random word is below this: 1 - p as a fraction of 2^32.
SERVAL_INLINE uint32_t dropout_limit(double p) {
  const double keep = 1 - p;
  return keep < 1 ? static_cast<uint32_t>(keep * 4294967296.0) : UINT32_MAX;
}

// Scratch bytes for a dropped-out copy of x, or of a part of dx.
inline int64_t linear_dropout_scratch(int64_t rows, int64_t rank, int64_t in_features, double dropout,
                                      int64_t element_size) {
  return dropout > 0 && rank > 0 ? (rows * in_features * element_size + 255) / 256 * 256 : 0;
}

// out[t, :] = x[t, :] * mask / (1 - p), or out += x * mask / (1 - p).
struct DropoutArgs {
  Operand x;
  void* out = nullptr;
  int64_t out_stride = 0;
  bool accumulate = false;
  double p = 0;
  const int64_t* random = nullptr;  // seed, step, micro-step
  uint64_t name_hash = 0;
  int64_t first_row = 0;  // the number of x's first row among those that the mask is drawn for
};

// target[j] += sum over rows of dy[:, j], in the order of the rows.
struct ColumnSumsArgs {
  const Operand& dy;
  const Operand& target;
};

}  // namespace serval
