#include "ops/attention/attention.h"

#include <algorithm>

#include "base/error.h"
#include "ops/attention/attention_cudnn.h"
#include "ops/attention/attention_own.h"
#include "ops/common/kernel.h"
#include "program/derive.h"

namespace serval {
SERVAL_CPU_KERNEL_WITH_AMX(attention_forward)
SERVAL_CPU_KERNEL_WITH_AMX(attention_backward)
SERVAL_CPU_KERNEL_WITH_AMX(attention_cached)

namespace ops {
namespace {

void check_heads(const CallView& v, size_t q, size_t k) {
  const int64_t heads = v.attributes().integer("heads"), kv_heads = v.attributes().integer("kv_heads");
  const int64_t head_dim = v.attributes().integer("head_dim");
  SERVAL_CHECK(head_dim % 8 == 0 && head_dim > 0 && head_dim <= 256 && heads % kv_heads == 0, "'{}'",
               v.call.name);
  SERVAL_CHECK(v.input(q).shape.row_size() == heads * head_dim &&
                   v.input(k).shape.row_size() == kv_heads * head_dim &&
                   v.input(k + 1).shape.row_size() == kv_heads * head_dim,
               "'{}'", v.call.name);
}

DType lse_dtype(DType dtype) {
  return dtype == DType::f64 ? DType::f64 : DType::f32;
}

// inputs: q, k, v, cu_seqlens
std::vector<OutputSpec> infer(const CallView& v) {
  check_heads(v, 0, 1);
  const TensorDecl& q = v.input(0);
  return {{q.dtype, {q.shape.rows(), q.shape.row_size()}, q.count},
          {lse_dtype(q.dtype), {q.shape.rows(), v.attributes().integer("heads")}, q.count, ".lse"}};
}

// As if the tokens were one document, at capacity; half of the square is masked.
double score_elements(const CallView& v, const TensorDecl& q) {
  const double tokens = static_cast<double>(q.shape.rows()),
               window = static_cast<double>(v.attributes().integer("window"));
  const double length = static_cast<double>(v.attributes().integer_or("max_length", 0));
  const double document = length > 0 ? length : tokens;
  const double keys = window > 0 && window < document / 2 ? window : document / 2;
  return tokens * keys * static_cast<double>(q.shape.row_size());
}
double operand_bytes(const CallView& v) {
  double bytes = 0;
  for_each_operand(v.call, [&](TensorId id) {
    bytes += static_cast<double>(v.program.tensor(id).shape.elements() * size_of(v.program.tensor(id).dtype));
  });
  return bytes;
}
Cost cost(const CallView& v) {
  return {4 * score_elements(v, v.input(0)), operand_bytes(v)};
}

// inputs: do, q, k, v, o, lse, cu_seqlens; outputs: dq, dk, dv
std::vector<OutputSpec> infer_backward(const CallView& v) {
  check_heads(v, 1, 2);
  std::vector<OutputSpec> specs;
  for (const size_t i : {1, 2, 3})
    specs.push_back({v.input(i).dtype, v.input(i).shape, v.input(i).count,
                     i == 1   ? ".dq"
                     : i == 2 ? ".dk"
                              : ".dv"});
  return specs;
}
Cost cost_backward(const CallView& v) {
  return {10 * score_elements(v, v.input(1)), operand_bytes(v)};
}

// Where tiles are f32: rowsum(dO o) of every row and head, and dQ, with heads padded as the tiles are. Where
// they are bf16: dQ alone, and an eighth for whole panels (attention_bf16_backward.h).
int64_t workspace_backward(const CallView& v) {
  if (v.input(1).dtype == DType::f64) return 0;
  const int64_t rows = v.input(1).shape.rows() * v.attributes().integer("heads");
  const int64_t dim = (v.attributes().integer("head_dim") + 31) / 32 * 32;
  const int64_t padded = v.input(1).dtype == DType::bf16 ? rows + rows / 8 : rows;
  return ((rows + 15) / 16 * 16 + (v.has_output(0) ? padded * dim : 0)) * size_of(DType::f32);
}

// On a GPU the kernel is chosen at run time: room for either. No kernel there takes f64.
AttentionCudnnShape cudnn_shape(const CallView& v, const TensorDecl& q, const TensorDecl& cu_seqlens) {
  const Attributes& a = v.attributes();
  AttentionCudnnShape shape;
  shape.dtype = q.dtype;
  shape.rows = q.shape.rows();
  shape.heads = a.integer("heads");
  shape.kv_heads = a.integer("kv_heads");
  shape.head_dim = a.integer("head_dim");
  shape.documents = cu_seqlens.shape.rows() - 1;
  return shape;
}
int64_t cuda_workspace(const CallView& v) {
  return attention_cudnn_forward_workspace(cudnn_shape(v, v.input(0), v.input(3)));
}
int64_t cuda_workspace_backward(const CallView& v) {
  AttentionCudnnShape shape = cudnn_shape(v, v.input(1), v.input(6));
  const auto stride = [&](size_t i) { return v.has_output(i) ? v.output(i).row_stride : 0; };
  shape.dq_stride = stride(0);
  shape.dk_stride = stride(1);
  shape.dv_stride = stride(2);
  return std::max(attention_own_backward_workspace(shape.rows, shape.heads),
                  attention_cudnn_backward_workspace(shape));
}

// cuDNN reads o and its gradient with one stride.
AlikeRows alike_rows_backward(const CallView& v) {
  return v.program.device == DeviceKind::cuda ? AlikeRows{4, 0} : AlikeRows{};
}

void derive(DeriveContext& c) {
  const OpCall& call = c.call();
  const TensorId dq = c.gradient_slot(0), dk = c.gradient_slot(1), dv = c.gradient_slot(2);
  if (dq == kNone && dk == kNone && dv == kNone) return;
  c.builder().call(attention_backward_op, call.name,
                   {c.output_gradient(0), call.inputs[0], call.inputs[1], call.inputs[2], call.outputs[0],
                    call.outputs[1], call.inputs[3]},
                   call.attributes, {}, {dq, dk, dv});
}

// inputs: q, k, v, cu_seqlens, past_lengths; updates: k_cache, v_cache
std::vector<OutputSpec> infer_cached(const CallView& v) {
  check_heads(v, 0, 1);
  SERVAL_CHECK(v.update(0).shape.row_size() == v.input(1).shape.row_size());
  return {{v.input(0).dtype, {v.input(0).shape.rows(), v.input(0).shape.row_size()}, v.input(0).count}};
}

int64_t cuda_workspace_cached(const CallView& v) {
  const Attributes& a = v.attributes();
  return attention_cached_workspace(v.input(0).shape.rows(), v.input(3).shape.rows() - 1, a.integer("heads"),
                                    a.integer("kv_heads"), a.integer("head_dim"), a.integer("capacity"));
}

Attributes attributes_of(const AttentionOptions& o) {
  return {{"heads", o.num_heads},
          {"kv_heads", o.num_key_value_heads},
          {"head_dim", o.head_dim},
          {"scale", o.scale},
          {"window", o.window},
          {"max_length", o.max_length},
          {"deterministic", int64_t{o.deterministic}},
          {"own", int64_t{o.own_kernels}}};
}

}  // namespace

const Op attention_op = {.name = "attention",
                         .infer = infer,
                         .cost = cost,
                         .derive = derive,
                         .cuda_workspace = cuda_workspace,
                         .run_cpu = run_attention_forward};
const Op attention_backward_op = {.name = "attention_backward",
                                  .infer = infer_backward,
                                  .cost = cost_backward,
                                  .workspace = workspace_backward,
                                  .cuda_workspace = cuda_workspace_backward,
                                  .alike_rows = alike_rows_backward,
                                  .run_cpu = run_attention_backward};
const Op attention_cached_op = {.name = "attention_cached",
                                .infer = infer_cached,
                                .cuda_workspace = cuda_workspace_cached,
                                .run_cpu = run_attention_cached};

TensorId attention(ProgramBuilder& b, const std::string& name, TensorId q, TensorId k, TensorId v,
                   TensorId cu_seqlens, const AttentionOptions& options) {
  return b.call(attention_op, b.scoped(name), {q, k, v, cu_seqlens}, attributes_of(options))[0];
}

TensorId attention_cached(ProgramBuilder& b, const std::string& name, TensorId q, TensorId k, TensorId v,
                          TensorId cu_seqlens, const KeyValueCache& cache, const AttentionOptions& options) {
  Attributes attributes = attributes_of(options);
  attributes.set("capacity", cache.capacity);
  return b.call(attention_cached_op, b.scoped(name), {q, k, v, cu_seqlens, cache.past_lengths}, attributes,
                {cache.k, cache.v})[0];
}

}  // namespace ops
}  // namespace serval
