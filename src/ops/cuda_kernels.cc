#include "ops/cuda_kernels.h"

#define SERVAL_FOR_EACH_CUDA_KERNEL(X)                 \
  X(accumulate, accumulate_cuda)                       \
  X(adamw, adamw_cuda)                                 \
  X(adamw_8bit, adamw_8bit_cuda)                       \
  X(add, add_cuda)                                     \
  X(argmax_rows, argmax_rows_cuda)                     \
  X(attention, attention_forward_cuda)                 \
  X(attention_backward, attention_backward_cuda)       \
  X(attention_cached, attention_cached_cuda)           \
  X(copy, copy_cuda)                                   \
  X(copy_from_host, copy_from_host_cuda)               \
  X(copy_to_host, copy_to_host_cuda)                   \
  X(embedding, embedding_forward_cuda)                 \
  X(embedding_backward, embedding_backward_cuda)       \
  X(fill_zero, fill_zero_cuda)                         \
  X(gather_rows, gather_rows_cuda)                     \
  X(gradient_norm, gradient_norm_cuda)                 \
  X(head_backward, head_backward_cuda)                 \
  X(head_logprobs, head_logprobs_cuda)                 \
  X(head_loss, head_loss_cuda)                         \
  X(linear, linear_forward_cuda)                       \
  X(linear_backward, linear_backward_cuda)             \
  X(linear_gradients, linear_gradients_cuda)           \
  X(logits, logits_cuda)                               \
  X(qk_norm_rope, qk_norm_rope_forward_cuda)           \
  X(qk_norm_rope_backward, qk_norm_rope_backward_cuda) \
  X(rms_norm, rms_norm_forward_cuda)                   \
  X(rms_norm_backward, rms_norm_backward_cuda)         \
  X(rope_table, rope_table_cuda)                       \
  X(swiglu, swiglu_forward_cuda)                       \
  X(swiglu_backward, swiglu_backward_cuda)

namespace serval {

#define SERVAL_DECLARE(op, function) void function(const KernelContext& context, void* stream);
SERVAL_FOR_EACH_CUDA_KERNEL(SERVAL_DECLARE)
#undef SERVAL_DECLARE

CudaKernel find_cuda_kernel(std::string_view name) {
#define SERVAL_FIND(op, function) \
  if (name == #op) return function;
  SERVAL_FOR_EACH_CUDA_KERNEL(SERVAL_FIND)
#undef SERVAL_FIND
  return nullptr;
}

}  // namespace serval
