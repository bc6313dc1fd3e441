// Our own attention on a GPU (sm_80 and newer): used where cuDNN does not cover a call, for f32 programs and
// for generation. Operands and maths as in attention.h. The same bits on every run: dQ is summed over keys in
// one kernel, dK and dV over queries in another, and nothing is added atomically.
//
// bf16 with rows at multiples of 16 bytes runs in tiles on the tensor cores (Dao, "FlashAttention-2", 2023);
// all else runs a plain kernel, a warp for each row and head. A tile is 64 rows of the packed tokens and may
// touch several documents: each row keeps the range that it sees. Rows of no document are written as zeros.
#pragma once
#include <algorithm>
#include <cstdint>

#include "program/kernel_context.h"

namespace serval {

// Of attention and of attention_backward; the forward takes no workspace.
void attention_own_forward(const KernelContext& c, void* stream);
void attention_own_backward(const KernelContext& c, void* stream);

// rowsum(dO o) of every row and head.
inline int64_t attention_own_backward_workspace(int64_t rows, int64_t heads) {
  return rows * heads * size_of(DType::f32);
}

// The forward over explicit operands. With past_lengths, k and v are caches: document i stands at their rows
// i * capacity, and its rows of q at positions past_lengths[i] and after.
struct AttentionForwardCall {
  Operand q, k, v, cu_seqlens, o, lse;  // lse may be absent
  const int32_t* past_lengths = nullptr;
  int64_t capacity = 0;
  const Attributes* attributes = nullptr;
};
void attention_own_forward(const AttentionForwardCall& call, void* stream);

// Generation with a token or two of each sequence: what a token sees is cut into pieces that are attended to
// at the same time (flash-decoding) and combined. The number of pieces depends on shapes alone; their length
// follows the sequence.
inline bool attention_cached_splits_keys(int64_t rows, int64_t sequences) {
  return rows <= 2 * sequences;
}
inline int64_t attention_cached_pieces(int64_t rows, int64_t kv_heads, int64_t capacity) {
  constexpr int64_t kBlocks = 1024, kMostPieces = 64, kLeastKeys = 64;
  const int64_t wanted = kBlocks / std::max<int64_t>(rows * kv_heads, 1);
  return std::clamp<int64_t>(std::min(wanted, (capacity + kLeastKeys - 1) / kLeastKeys), 1, kMostPieces);
}
// The maximum, the sum and the values of every piece.
inline int64_t attention_cached_workspace(int64_t rows, int64_t sequences, int64_t heads, int64_t kv_heads,
                                          int64_t head_dim, int64_t capacity) {
  if (!attention_cached_splits_keys(rows, sequences)) return 0;
  const int64_t pieces = attention_cached_pieces(rows, kv_heads, capacity);
  return pieces == 1 ? 0 : rows * heads * pieces * (head_dim + 2) * size_of(DType::f32);
}

}  // namespace serval
