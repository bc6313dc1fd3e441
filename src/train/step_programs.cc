#include "train/step_programs.h"

#include "models/decoder.h"
#include "ops/elementwise/elementwise.h"
#include "ops/head/head.h"
#include "plan/differentiate.h"
#include "plan/recompute.h"
#include "plan/side_columns.h"

namespace serval {
namespace {

struct Batch {
  DecoderInputs decoder;
  TensorId label_rows = kNone, labels = kNone, row_weights = kNone;
};

Batch declare_batch(ProgramBuilder& b, const BatchCapacity& c) {
  const TensorId num_tokens = b.input("num_tokens", DType::i32, {1});
  const TensorId num_boundaries = b.input("num_boundaries", DType::i32, {1});
  const TensorId num_labels = b.input("num_labels", DType::i32, {1});
  Batch batch;
  batch.decoder.input_ids = b.input("input_ids", DType::i32, {c.tokens}, num_tokens);
  batch.decoder.position_ids = b.input("position_ids", DType::i32, {c.tokens}, num_tokens);
  batch.decoder.cu_seqlens = b.input("cu_seqlens", DType::i32, {c.documents + 1}, num_boundaries);
  batch.decoder.longest_document = c.longest;
  batch.label_rows = b.input("label_rows", DType::i32, {c.labels}, num_labels);
  batch.labels = b.input("labels", DType::i32, {c.labels}, num_labels);
  batch.row_weights = b.input("row_weights", DType::f32, {c.labels}, num_labels);
  return batch;
}

void write_forward(Network& net, const DecoderConfig& config, const Batch& batch, bool training) {
  ProgramBuilder& b = net.b;
  const TensorId hidden = decoder_forward(net, config, batch.decoder);
  const TensorId head = decoder_head_weight(net, config);
  ops::head_loss(b, "lm_head",
                 {.hidden = hidden,
                  .weight = head,
                  .label_rows = batch.label_rows,
                  .labels = batch.labels,
                  .row_weights = batch.row_weights,
                  .sums = b.state("loss.sums", DType::f64, {4}, Role::counter),
                  .weight_gradient = training ? net.gradient_of(head) : kNone,
                  .wants_gradient = training});
}

}  // namespace

Program build_train_program(const DecoderConfig& config, const NetworkOptions& options,
                            const BatchCapacity& capacity, Recompute policy, ParameterTable& table,
                            DeviceKind device) {
  Program program{.name = "train", .device = device};
  ProgramBuilder b(program);
  NetworkOptions training = options;
  training.gradients = true;
  training.dropout = true;
  Network net(b, table, training);
  write_forward(net, config, declare_batch(b, capacity), true);
  std::vector<ParameterGradient> gradients;
  for (const Parameter& parameter : table.all())
    if (parameter.trained())
      gradients.push_back({program.find(parameter.state), program.find(gradient_state(parameter))});
  differentiate(program, gradients);
  if (policy != Recompute::none)
    program = recompute(
        program, policy == Recompute::blocks ? drop_all_but_block_inputs(program) : drop_cheap(program));
  return add_side_columns(std::move(program));
}

Program build_eval_program(const DecoderConfig& config, const NetworkOptions& options,
                           const BatchCapacity& capacity, ParameterTable& table, DeviceKind device) {
  Program program{.name = "eval", .device = device};
  ProgramBuilder b(program);
  Network net(b, table, options);
  write_forward(net, config, declare_batch(b, capacity), false);
  return add_side_columns(std::move(program));
}

bool decays(const std::string& name) {
  return name.find("bias") == std::string::npos && name.find("norm") == std::string::npos;
}

bool has_master(const Parameter& parameter) {
  return parameter.dtype == DType::bf16 || parameter.storage.has_value();
}

Program build_update_program(const ParameterTable& table, const UpdateSettings& settings, DeviceKind device) {
  Program program{.name = "update", .device = device};
  ProgramBuilder b(program);
  b.set_phase(Phase::update);
  const TensorId hyper = b.input("hyper", DType::f64, {2});
  const TensorId stats = b.state("optimizer.stats", DType::f64, {2}, Role::counter);
  std::vector<ops::AdamWOperands> updates, updates_without_decay;
  std::vector<TensorId> gradients;
  std::vector<TensorId> unused;  // gradients of frozen rows beside trained ones
  for (const Parameter& parameter : table.all()) {
    if (!parameter.trained()) continue;
    const DType wide = parameter.dtype == DType::f64 ? DType::f64 : DType::f32;
    const TensorId state = declare_parameter(b, parameter);
    const TensorId gradient = b.state(gradient_state(parameter), wide, parameter.shape, Role::gradient);
    for (const ParameterSlice& slice : parameter.slices) {
      const int64_t rows = slice.shape.rows();
      const TensorId g = b.rows(gradient, slice.row_begin, rows);
      if (!slice.trained) {
        unused.push_back(g);
        continue;
      }
      ops::AdamWOperands o;
      const TensorId own = b.rows(state, slice.row_begin, rows);
      o.parameter =
          has_master(parameter) ? b.state(master_state(slice), wide, slice.shape, parameter.role) : own;
      o.copy = has_master(parameter) ? own : kNone;
      o.m = b.state(moment_state(slice, 1), wide, slice.shape, Role::optimizer);
      o.v = b.state(moment_state(slice, 2), wide, slice.shape, Role::optimizer);
      o.gradient = g;
      gradients.push_back(g);
      const bool spared = settings.adamw.weight_decay != 0 && !decays(slice.name);
      (spared ? updates_without_decay : updates).push_back(o);
    }
  }
  ops::gradient_norm(b, "gradient_norm", gradients, settings.max_grad_norm, stats);
  ops::AdamWSettings without_decay = settings.adamw;
  without_decay.weight_decay = 0;
  if (!updates.empty()) ops::adamw(b, "adamw", updates, hyper, stats, settings.adamw);
  if (!updates_without_decay.empty())
    ops::adamw(b, "adamw.no_decay", updates_without_decay, hyper, stats, without_decay);
  for (const TensorId g : unused) ops::fill_zero(b, "frozen_gradient", g);
  return program;
}

}  // namespace serval
