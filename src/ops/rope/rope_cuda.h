// The scratch memory of the backward kernel on a GPU, which its workspace rule and its launches must agree
// on.
#pragma once
#include <algorithm>
#include <cstdint>

namespace serval::ops {

// Blocks that each add up the gradient of a norm weight over some of the rows, for q and again for k: enough
// to fill any GPU. Constant, so that the sum is the same on every device.
constexpr int64_t head_norm_gradient_parts(int64_t rows) {
  return std::min<int64_t>(rows, 2048);
}
// f32 numbers: the parts of q, then those of k.
constexpr int64_t rope_backward_numbers(int64_t rows, int64_t head_dim) {
  return 2 * head_norm_gradient_parts(rows) * head_dim;
}

}  // namespace serval::ops
