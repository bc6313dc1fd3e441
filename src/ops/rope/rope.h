// Rotary position embedding (Su et al., "RoFormer", 2021) with the optional RMSNorm of each query and key
// head that Qwen3 applies before it.
//
// rope_table: cos and sin of position * inverse_frequency, once for all layers.
//   positions i32[T], inverse_frequency: R/2 numbers (any scaling is already in them); the angle is rounded
//   to f32, as transformers computes it, cos and sin are taken in f64; attention_scaling multiplies both ->
//   cos, sin [T, R/2] f32 (f64 in f64 programs).
// qk_norm_rope: q [T, Hq*d], k [T, Hk*d], cos, sin, optional norm weights [d] -> q', k'.
//   Of each head the first R <= d elements are rotated: pair (x1, x2) -> (x1 c - x2 s, x2 c + x1 s), where a
//   pair is (i, i + R/2) in the half layout (Hugging Face), or (2i, 2i+1) in the interleaved layout. With
//   norm weights each head is first x / sqrt(mean(x^2) + eps) * weight. q' and k' are never kept for
//   backward.
#pragma once
#include <string>
#include <vector>

#include "program/op.h"

namespace serval::ops {

constexpr int64_t kMaxRopeHeadDim = 512;

extern const Op rope_table_op, qk_norm_rope_op, qk_norm_rope_backward_op;

struct RopeTable {
  TensorId cos = kNone, sin = kNone;
};
RopeTable rope_table(ProgramBuilder& b, const std::string& name, TensorId positions,
                     const std::vector<double>& inverse_frequency, double attention_scaling,
                     DType compute_dtype);

struct QkRopeOptions {
  int64_t head_dim = 0;
  bool interleaved = false;
  double eps = 0;  // of the norms
  TensorId q_norm = kNone, k_norm = kNone;
};
struct RotatedQk {
  TensorId q = kNone, k = kNone;
};
RotatedQk qk_norm_rope(ProgramBuilder& b, const std::string& name, TensorId q, TensorId k, RopeTable table,
                       const QkRopeOptions& options);

}  // namespace serval::ops
