// Attention by cuDNN's fused kernels (the library is opened at run time): bf16, packed documents, grouped
// heads, causal, sliding window. Operands as in attention.h. What cuDNN does not cover, and what a version of
// it is known to compute wrongly, is left to our own kernels (attention_own.h).
//
// Scratch memory is planned on machines without a GPU, hence the plain arithmetic below: an upper bound of
// what the library asks for. A plan that needs more is not taken.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>

#include "program/kernel_context.h"

namespace serval {

// Queues one call on a stream (a cudaStream_t) and returns "", or does nothing and returns why cuDNN does not
// compute it. The first call of a shape builds its plan, which is not possible while the stream is captured.
std::string attention_cudnn_forward(const KernelContext& context, void* stream);
std::string attention_cudnn_backward(const KernelContext& context, void* stream);
// "9.19.0"; "" before the library has been opened.
// With the attribute `deterministic` its backward is taken only where it can give the same bits on every run
// (its forward always does); with `own` cuDNN is never taken.
std::string attention_cudnn_version();

struct AttentionCudnnShape {
  DType dtype = DType::bf16;
  int64_t rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t documents = 0;  // rows of cu_seqlens - 1
  // Elements between rows of the gradients; 0 where one is not wanted, and in the forward.
  int64_t dq_stride = 0, dk_stride = 0, dv_stride = 0;
};

// Sequence lengths that cuDNN is told are multiples of this: its backward has a history of errors where the
// tail of the keys fills half a tile, and it rejects a length of 1.
constexpr int64_t kAttentionCudnnTile = 128;
constexpr int64_t kAttentionForwardTensors = 5;   // q, k, v, o, lse
constexpr int64_t kAttentionBackwardTensors = 9;  // and do, dq, dk, dv

// Where the parts of the scratch memory stand, in bytes.
struct AttentionCudnnScratch {
  int64_t offset_pitch = 0;  // elements between the arrays of offsets, one a tensor
  int64_t lengths = 0, offsets = 0;
  // dK and dV side by side and without gaps; -1: written where they belong. dQ likewise.
  int64_t dq = -1, dk = -1, dv = -1;
  int64_t library = 0, library_bytes = 0;
  int64_t bytes = 0;
};

inline AttentionCudnnScratch attention_cudnn_scratch(const AttentionCudnnShape& s, bool backward) {
  AttentionCudnnScratch at;
  // The arena aligns to less than the library wants; the start is rounded up.
  constexpr int64_t kAlign = 256;
  int64_t next = kAlign;
  const auto take = [&next](int64_t bytes) {
    const int64_t begin = next - kAlign;
    next += (bytes + kAlign - 1) / kAlign * kAlign;
    return begin;
  };
  const int64_t tokens = (s.rows + kAttentionCudnnTile - 1) / kAttentionCudnnTile * kAttentionCudnnTile;
  const int64_t q_size = s.heads * s.head_dim, k_size = s.kv_heads * s.head_dim;
  at.offset_pitch = (s.documents + 1 + 31) / 32 * 32;
  at.lengths = take(s.documents * 4);
  at.offsets = take(at.offset_pitch * 8 * (backward ? kAttentionBackwardTensors : kAttentionForwardTensors));
  at.library_bytes = (int64_t{16} << 20) + s.documents * 2048;
  if (backward) {
    // With grouped keys the library keeps dK and dV of every query head, a query group times the row stride
    // apart: in a fused gradient that would be several times the memory, so it writes dense rows then.
    const bool grouped = s.heads != s.kv_heads;
    const auto apart = [&](int64_t stride) { return stride == 0 || (grouped && stride != k_size); };
    if (s.dq_stride == 0) at.dq = take(s.rows * q_size * 2);
    if (apart(s.dk_stride)) at.dk = take(s.rows * k_size * 2);
    if (apart(s.dv_stride)) at.dv = take(s.rows * k_size * 2);
    at.library_bytes += tokens * std::max(s.dq_stride, q_size) * 4;  // dQ in f32
    if (grouped) at.library_bytes += tokens * q_size * 4 * 2;        // dK and dV of every query head
    at.library_bytes += tokens * s.heads * 4;                        // rowsum(dO o)
  }
  at.library = take(at.library_bytes);
  at.bytes = next;
  return at;
}

// The library's scratch memory is bounded by the tokens only where the head is a multiple of 16; else its
// backward takes documents times the longest.
inline bool attention_cudnn_takes(const AttentionCudnnShape& s, bool backward) {
  return s.dtype == DType::bf16 && s.rows > 0 && s.documents > 0 && s.head_dim <= 256 &&
         s.head_dim % (backward ? 16 : 8) == 0;
}
// Scratch bytes; 0 where cuDNN never computes such a call.
inline int64_t attention_cudnn_forward_workspace(const AttentionCudnnShape& s) {
  return attention_cudnn_takes(s, false) ? attention_cudnn_scratch(s, false).bytes : 0;
}
inline int64_t attention_cudnn_backward_workspace(const AttentionCudnnShape& s) {
  return attention_cudnn_takes(s, true) ? attention_cudnn_scratch(s, true).bytes : 0;
}

}  // namespace serval
