// Softmax attention over packed documents (Vaswani et al., 2017; computed in tiles as in Dao,
// "FlashAttention-2", 2023).
//   q [T, Hq*d], k, v [T, Hk*d], cu_seqlens i32[documents + 1] (a count gives the valid ones) -> o [T, Hq*d],
//   lse [T, Hq] f32 (f64 in f64 programs): the log-sum-exp of each row of scores.
//   Query t of a document sees keys s of the same document with s <= t, and t - s < window where window > 0.
//   Query head h reads key head h / (Hq / Hk). d is a multiple of 8, at most 256. score = scale * q.k.
// Gradient: P = exp(scale q.k - lse), dV = P^T dO, dP = dO V^T, dS = P (dP - rowsum(dO o)), dQ = scale dS K,
//   dK = scale dS^T Q. Sums in f32, in an order that does not depend on the thread count.
//
// attention_cached, for generation: the new tokens of several sequences (packed by cu_seqlens) are appended
// to a cache
//   and attend to all that it holds of their sequence.
//   k_cache, v_cache (updated) [sequences * capacity, Hk*d]; past_lengths i32[sequences]: tokens cached
//   before.
#pragma once
#include <string>

#include "program/op.h"

namespace serval::ops {

extern const Op attention_op, attention_backward_op, attention_cached_op;

struct AttentionOptions {
  int64_t num_heads = 0, num_key_value_heads = 0, head_dim = 0;
  double scale = 0;
  int64_t window = 0;      // 0: unlimited
  int64_t max_length = 0;  // tokens of the longest document, at most; 0: not known
  // On a GPU: equal bits on every run; our own kernels instead of the library's.
  bool deterministic = false, own_kernels = false;
};

TensorId attention(ProgramBuilder& b, const std::string& name, TensorId q, TensorId k, TensorId v,
                   TensorId cu_seqlens, const AttentionOptions& options);

struct KeyValueCache {
  TensorId k = kNone, v = kNone;  // states
  TensorId past_lengths = kNone;  // input
  int64_t capacity = 0;           // tokens of one sequence
};
TensorId attention_cached(ProgramBuilder& b, const std::string& name, TensorId q, TensorId k, TensorId v,
                          TensorId cu_seqlens, const KeyValueCache& cache, const AttentionOptions& options);

}  // namespace serval::ops
