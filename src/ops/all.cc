#include "ops/all.h"

#include "ops/adamw/adamw.h"
#include "ops/adamw_8bit/adamw_8bit.h"
#include "ops/argmax/argmax.h"
#include "ops/attention/attention.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/head/head.h"
#include "ops/host_copy/host_copy.h"
#include "ops/linear/linear.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/swiglu/swiglu.h"

namespace serval {
namespace {

const Op* const kOps[] = {
    &ops::accumulate_op,
    &ops::adamw_8bit_op,
    &ops::adamw_op,
    &ops::add_op,
    &ops::argmax_rows_op,
    &ops::attention_backward_op,
    &ops::attention_cached_op,
    &ops::attention_op,
    &ops::copy_from_host_op,
    &ops::copy_op,
    &ops::copy_to_host_op,
    &ops::embedding_backward_op,
    &ops::embedding_op,
    &ops::fill_zero_op,
    &ops::gather_rows_op,
    &ops::gradient_norm_op,
    &ops::head_backward_op,
    &ops::head_logprobs_op,
    &ops::head_loss_op,
    &ops::linear_backward_op,
    &ops::linear_gradients_op,
    &ops::linear_op,
    &ops::logits_op,
    &ops::qk_norm_rope_backward_op,
    &ops::qk_norm_rope_op,
    &ops::rms_norm_backward_op,
    &ops::rms_norm_op,
    &ops::rope_table_op,
    &ops::swiglu_backward_op,
    &ops::swiglu_op,
};

}  // namespace

std::span<const Op* const> all_ops() {
  return kOps;
}

const Op* find_op(std::string_view name) {
  for (const Op* op : kOps)
    if (op->name == name) return op;
  return nullptr;
}

}  // namespace serval
