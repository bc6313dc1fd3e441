// The scratch memory of the backward kernel on a GPU, which its workspace rule and its launches must agree
// on.
#pragma once
#include <algorithm>
#include <cstdint>

namespace serval::ops {

// Blocks that each add up the weight's gradient over some of the rows: two (four of the smaller ones) on each
// of 132 multiprocessors. Constant, so that the sum is the same on every device.
constexpr int64_t norm_gradient_parts(int64_t rows, int64_t size) {
  return std::min<int64_t>(rows, size <= 2048 ? 528 : 264);
}
// f32 numbers: those parts; or, for rows that no block can hold, 1 / sqrt(mean(s^2) + eps) of each row.
constexpr int64_t norm_backward_numbers(int64_t rows, int64_t size) {
  return std::max(rows, norm_gradient_parts(rows, size) * size);
}

}  // namespace serval::ops
