#include "ops/head/head.h"

#include <algorithm>

#include "base/error.h"
#include "ops/common/kernel.h"
#include "ops/head/head_kernels.h"
#include "ops/head/head_tiles.h"
#include "program/derive.h"

namespace serval {
void run_head_loss(const KernelContext& c);
void run_head_logprobs(const KernelContext& c);
void run_head_backward(const KernelContext& c);
void run_logits(const KernelContext& c);

namespace {
int64_t forced_chunk_rows = 0;

int64_t fitting_rows(int64_t vocab_size, bool tiles) {
  if (forced_chunk_rows > 0) return forced_chunk_rows;
  constexpr int64_t kTileRows = 1024;
  return tiles ? kTileRows : std::max<int64_t>(16, (int64_t{192} << 20) / (4 * vocab_size) / 16 * 16);
}
}  // namespace

void set_head_chunk_rows_for_tests(int64_t rows) {
  forced_chunk_rows = rows;
}

int64_t head_chunk_rows(int64_t vocab_size, int64_t rows, bool tiles) {
  const int64_t fitting = fitting_rows(vocab_size, tiles), unit = tiles ? kHeadPanel : 16;
  const int64_t chunks = std::max<int64_t>(1, (rows + fitting - 1) / fitting);
  const int64_t alike = ((rows + chunks - 1) / chunks + unit - 1) / unit * unit;
  return std::max<int64_t>(1, std::min({rows, fitting, alike}));
}

int64_t head_most_chunk_rows(int64_t vocab_size, int64_t capacity, bool tiles) {
  return std::max<int64_t>(1, std::min(capacity, fitting_rows(vocab_size, tiles)));
}

int64_t head_cuda_chunk_rows(int64_t vocab_size, int64_t rows, DType dtype) {
  if (forced_chunk_rows > 0) return std::max<int64_t>(1, std::min(rows, forced_chunk_rows));
  const int64_t row_bytes = head_cuda_stride(vocab_size) * size_of(dtype);
  const int64_t fitting = std::max<int64_t>(128, (int64_t{320} << 20) / row_bytes / 128 * 128);
  const int64_t chunks = std::max<int64_t>(1, (rows + fitting - 1) / fitting);
  return std::clamp<int64_t>(((rows + chunks - 1) / chunks + 127) / 128 * 128, 1, std::max<int64_t>(rows, 1));
}

HeadCudaLayout head_cuda_layout(const HeadSizes& s) {
  HeadCudaLayout layout;
  layout.chunk = head_cuda_chunk_rows(s.vocab_size, s.label_rows, s.dtype);
  layout.logits_stride = head_cuda_stride(s.vocab_size);
  layout.hidden_stride = head_cuda_stride(s.hidden_size);
  const auto take = [&](int64_t bytes) {
    const int64_t offset = layout.bytes;
    layout.bytes += (bytes + 255) / 256 * 256;
    return offset;
  };
  layout.logits = take(layout.chunk * layout.logits_stride * size_of(s.dtype));
  layout.hidden = take(layout.chunk * layout.hidden_stride * size_of(s.dtype));
  if (s.gives_d_hidden) {
    layout.d_hidden = take(layout.chunk * layout.hidden_stride * size_of(s.dtype));
    layout.labelled = take(s.hidden_rows);
  }
  layout.nll = take(s.label_rows * 8);
  layout.correct = take(s.label_rows * 4);
  return layout;
}

namespace ops {
namespace {

DType wide(DType dtype) {
  return dtype == DType::f64 ? DType::f64 : DType::f32;
}

void check_operands(const CallView& v, size_t hidden) {
  SERVAL_CHECK(v.input(hidden).shape.row_size() == v.input(hidden + 1).shape.row_size() &&
                   v.input(hidden).dtype == v.input(hidden + 1).dtype &&
                   v.input(hidden + 2).dtype == DType::i32 && v.input(hidden + 3).dtype == DType::i32,
               "'{}'", v.call.name);
}
double product_flops(const CallView& v, size_t hidden) {
  return 2.0 * static_cast<double>(v.input(hidden + 2).shape.rows()) *
         static_cast<double>(v.input(hidden + 1).shape.elements());
}
Cost chunked_cost(const CallView& v, size_t hidden, double products, bool trains_weight = false) {
  // The weight is read once a chunk by each product, by tiles once for all.
  const auto& weight = v.input(hidden + 1);
  const bool on_gpu = v.program.device == DeviceKind::cuda;
  const bool tiles = !on_gpu && head_uses_tiles(weight.dtype, trains_weight);
  const int64_t rows = v.input(hidden + 2).shape.rows();
  const int64_t chunk = on_gpu ? head_cuda_chunk_rows(weight.shape.rows(), rows, weight.dtype)
                               : head_chunk_rows(weight.shape.rows(), rows, tiles);
  const int64_t chunks = (rows + chunk - 1) / chunk;
  return {products * product_flops(v, hidden),
          (tiles ? 1 : products) * static_cast<double>(chunks) *
              static_cast<double>(weight.shape.elements() * size_of(weight.dtype))};
}

// inputs: hidden, weight, label_rows, labels, row_weights; updates: sums, d_weight?; outputs: d_hidden?
std::vector<OutputSpec> infer_loss(const CallView& v) {
  check_operands(v, 0);
  SERVAL_CHECK(v.update(0).dtype == DType::f64 && v.update(0).shape.elements() == 4);
  return {{v.input(0).dtype, v.input(0).shape, v.input(0).count, ".hidden_gradient",
           v.attributes().integer("gradient") == 0}};
}
Cost cost_loss(const CallView& v) {
  return chunked_cost(v, 0, 1 + (v.has_output(0) ? 1 : 0) + (v.has_update(1) ? 1 : 0), v.has_update(1));
}
int64_t workspace_of(const CallView& v, size_t hidden, bool gives_d_hidden, bool trains_weight) {
  return head_workspace_bytes({.label_rows = v.input(hidden + 2).shape.rows(),
                               .vocab_size = v.input(hidden + 1).shape.rows(),
                               .hidden_size = v.input(hidden).shape.row_size(),
                               .dtype = v.input(hidden).dtype,
                               .gives_d_hidden = gives_d_hidden,
                               .trains_weight = trains_weight});
}
int64_t cuda_workspace_of(const CallView& v, size_t hidden, bool gives_d_hidden) {
  return head_cuda_layout({.label_rows = v.input(hidden + 2).shape.rows(),
                           .hidden_rows = v.input(hidden).shape.rows(),
                           .vocab_size = v.input(hidden + 1).shape.rows(),
                           .hidden_size = v.input(hidden).shape.row_size(),
                           .dtype = v.input(hidden).dtype,
                           .gives_d_hidden = gives_d_hidden})
      .bytes;
}
int64_t workspace_loss(const CallView& v) {
  return workspace_of(v, 0, v.has_output(0), v.has_update(1));
}
int64_t cuda_workspace_loss(const CallView& v) {
  return cuda_workspace_of(v, 0, v.has_output(0));
}
void derive_loss(DeriveContext& c) {
  c.give(0, c.call().outputs[0]);
}

// inputs: hidden, weight, label_rows, labels; outputs: log-probabilities
std::vector<OutputSpec> infer_logprobs(const CallView& v) {
  check_operands(v, 0);
  return {{wide(v.input(0).dtype), {v.input(2).shape.rows(), 1}, v.input(2).count}};
}
Cost cost_logprobs(const CallView& v) {
  return chunked_cost(v, 0, 1);
}
int64_t workspace_logprobs(const CallView& v) {
  return workspace_of(v, 0, false, false);
}
int64_t cuda_workspace_logprobs(const CallView& v) {
  return cuda_workspace_of(v, 0, false);
}

// inputs: d_logprobs, hidden, weight, label_rows, labels; updates: d_weight?; outputs: d_hidden
std::vector<OutputSpec> infer_backward(const CallView& v) {
  check_operands(v, 1);
  return {{v.input(1).dtype, v.input(1).shape, v.input(1).count, ".gradient"}};
}
Cost cost_backward(const CallView& v) {
  return chunked_cost(v, 1, 2 + (v.has_update(0) ? 1 : 0), v.has_update(0));
}
int64_t workspace_backward(const CallView& v) {
  return workspace_of(v, 1, v.has_output(0), v.has_update(0));
}
int64_t cuda_workspace_backward(const CallView& v) {
  return cuda_workspace_of(v, 1, true);
}

void derive_logprobs(DeriveContext& c) {
  const OpCall& call = c.call();
  const TensorId d_hidden = c.gradient_slot(0);
  const TensorId d_weight = c.parameter_gradient(1);
  if (d_hidden == kNone && d_weight == kNone) return;
  c.builder().call(head_backward_op, call.name,
                   {c.output_gradient(0), call.inputs[0], call.inputs[1], call.inputs[2], call.inputs[3]}, {},
                   {d_weight}, {d_hidden});
}

std::vector<OutputSpec> infer_logits(const CallView& v) {
  return {{wide(v.input(0).dtype), {v.input(2).shape.rows(), v.input(1).shape.rows()}, v.input(2).count}};
}
Cost cost_logits(const CallView& v) {
  return chunked_cost(v, 0, 1);
}
int64_t workspace_logits(const CallView& v) {
  return v.input(2).shape.rows() * v.input(0).shape.row_size() * size_of(v.input(0).dtype);
}
int64_t cuda_workspace_logits(const CallView& v) {
  return v.input(2).shape.rows() * head_cuda_stride(v.input(0).shape.row_size()) * size_of(v.input(0).dtype);
}

}  // namespace

const Op head_loss_op = {.name = "head_loss",
                         .infer = infer_loss,
                         .cost = cost_loss,
                         .derive = derive_loss,
                         .is_loss = true,
                         .workspace = workspace_loss,
                         .cuda_workspace = cuda_workspace_loss,
                         .run_cpu = run_head_loss};
const Op head_logprobs_op = {.name = "head_logprobs",
                             .infer = infer_logprobs,
                             .cost = cost_logprobs,
                             .derive = derive_logprobs,
                             .workspace = workspace_logprobs,
                             .cuda_workspace = cuda_workspace_logprobs,
                             .run_cpu = run_head_logprobs};
const Op head_backward_op = {.name = "head_backward",
                             .infer = infer_backward,
                             .cost = cost_backward,
                             .workspace = workspace_backward,
                             .cuda_workspace = cuda_workspace_backward,
                             .run_cpu = run_head_backward};
const Op logits_op = {.name = "logits",
                      .infer = infer_logits,
                      .cost = cost_logits,
                      .workspace = workspace_logits,
                      .cuda_workspace = cuda_workspace_logits,
                      .run_cpu = run_logits};

void head_loss(ProgramBuilder& b, const std::string& name, const HeadLossOperands& o) {
  b.call(head_loss_op, b.scoped(name), {o.hidden, o.weight, o.label_rows, o.labels, o.row_weights},
         {{"gradient", int64_t{o.wants_gradient}}}, {o.sums, o.weight_gradient});
}

TensorId head_logprobs(ProgramBuilder& b, const std::string& name, TensorId hidden, TensorId weight,
                       TensorId label_rows, TensorId labels) {
  return b.call(head_logprobs_op, b.scoped(name), {hidden, weight, label_rows, labels})[0];
}

TensorId logits(ProgramBuilder& b, const std::string& name, TensorId hidden, TensorId weight, TensorId rows,
                TensorId target) {
  std::vector<TensorId> outputs;
  if (target != kNone) outputs.push_back(target);
  return b.call(logits_op, b.scoped(name), {hidden, weight, rows}, {}, {}, outputs)[0];
}

}  // namespace ops
}  // namespace serval
