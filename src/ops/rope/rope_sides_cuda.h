// The queries and the keys of a RoPE call as its kernels see them, and the kernels for the heads that most
// models have: bf16, 64, 128 or 256 elements, all of them rotated, in the half layout, and both sides normed
// or neither. Only .cu files include it.
//
//   if (rope_heads_forward(a, stream)) return;  // else the kernels for any head
#pragma once
#include "ops/common/cuda_kernel.h"

namespace serval {

// The queries or the keys, and the blocks that work on them. A row of them takes `slots` groups of lanes,
// each of which walks over the heads slot, slot + slots, ...
template <class T>
struct RopeSide {
  const T *x = nullptr, *weight = nullptr, *dy = nullptr;
  T* out = nullptr;       // forward: the rotated heads; backward: the gradient of x, if it is wanted
  float* part = nullptr;  // backward: of the weight's gradient, [blocks, head_dim], if it is wanted
  int64_t x_stride = 0, dy_stride = 0, out_stride = 0;
  int heads = 0, slots = 0, rows_per_block = 0, blocks = 0;
};

template <class T>
struct RopeArguments {
  RopeSide<T> sides[2];
  const float *cos, *sin;
  int64_t cos_stride, sin_stride, rows;
  int head_dim, half, units, rotated_units, lane_bits;
  float eps;
};

// Rows and angles must begin at multiples of 16 bytes. False: nothing was queued, another kernel must do it.
bool rope_heads_forward(RopeArguments<cuda::bf16> a, cudaStream_t stream);
// Sets `blocks` of both sides: the parts of the weight's gradient that each has written, at most max_parts.
bool rope_heads_backward(RopeArguments<cuda::bf16>& a, int64_t max_parts, cudaStream_t stream);

}  // namespace serval
