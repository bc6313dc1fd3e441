#include "train/step_programs.h"

#include "base/error.h"
#include "base/philox.h"
#include "models/decoder.h"
#include "ops/adamw_8bit/adamw_8bit.h"
#include "ops/elementwise/elementwise.h"
#include "ops/head/head.h"
#include "plan/differentiate.h"
#include "plan/offload.h"
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

// Forward, loss and backward; everything that backward reads is kept.
Program whole_train_program(const DecoderConfig& config, const NetworkOptions& options,
                            const BatchCapacity& capacity, ParameterTable& table, DeviceKind device) {
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
  return program;
}

Program finish_train_program(Program program, const MemoryOptions& memory) {
  if (memory.offload_inputs) program = offload_block_inputs(program);
  return add_side_columns(std::move(program));
}

DropList drop_list_of(const Program& program, const MemoryOptions& memory) {
  switch (memory.recompute) {
    case Recompute::none:
      return {};
    case Recompute::cheap:
      return drop_cheap(program);
    case Recompute::blocks:
      return drop_all_but_block_inputs(program);
    case Recompute::fitted:
      break;
  }
  return drop_list(program, memory.choice);
}

}  // namespace

const char* name_of(Recompute recompute) {
  static constexpr const char* names[] = {"none", "cheap", "blocks", "fitted"};
  return names[static_cast<int>(recompute)];
}

Program build_train_program(const DecoderConfig& config, const NetworkOptions& options,
                            const BatchCapacity& capacity, const MemoryOptions& memory, ParameterTable& table,
                            DeviceKind device) {
  const Program whole = whole_train_program(config, options, capacity, table, device);
  return finish_train_program(recompute(whole, drop_list_of(whole, memory)), memory);
}

RecomputeChoice fit_train_program(const DecoderConfig& config, const NetworkOptions& options,
                                  const BatchCapacity& capacity, const MemoryOptions& memory,
                                  int64_t arena_budget, DeviceKind device) {
  ParameterTable table;
  return fit_recompute(whole_train_program(config, options, capacity, table, device), arena_budget,
                       nominal_rates(device),
                       [&](Program program) { return finish_train_program(std::move(program), memory); });
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

bool is_embedding(const std::string& name) {
  return name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight");
}

bool has_master(const Parameter& parameter, Optimizer optimizer) {
  return optimizer == Optimizer::adamw && (parameter.dtype == DType::bf16 || parameter.storage.has_value());
}

Optimizer optimizer_from_name(std::string_view name) {
  if (name == "adamw_torch") return Optimizer::adamw;
  if (name == "adamw_8bit") return Optimizer::adamw_8bit;
  SERVAL_CHECK(name == "adamw_bf16", "optim '{}'", name);
  return Optimizer::adamw_bf16;
}

namespace {

// As in bitsandbytes: a tensor below this size keeps f32 moments.
constexpr int64_t kSmallest8bit = 4096;

// The calls that update all trained slices which share their weight decay.
class UpdateCalls {
 public:
  explicit UpdateCalls(const UpdateSettings& settings) : settings_(settings) {}

  void add(ProgramBuilder& b, const Parameter& parameter, const ParameterSlice& slice, TensorId own,
           TensorId gradient) {
    const DType wide = b.tensor(gradient).dtype;
    const uint64_t stream = stable_hash(slice.name);
    const int64_t elements = slice.shape.elements();
    const auto moment = [&](int which, DType dtype, const Shape& shape) {
      return b.state(moment_state(slice, which), dtype, shape, Role::optimizer);
    };
    if (settings_.optimizer == Optimizer::adamw_8bit && elements >= kSmallest8bit) {
      const int64_t blocks = ops::moment_blocks(elements);
      const Shape codes{blocks * ops::kMomentBlock};
      const auto absmax = [&](int which) {
        return b.state(absmax_state(slice, which), DType::f32, {blocks}, Role::optimizer);
      };
      small_.push_back({.parameter = own,
                        .m_codes = moment(1, DType::u8, codes),
                        .m_absmax = absmax(1),
                        .v_codes = moment(2, DType::u8, codes),
                        .v_absmax = absmax(2),
                        .gradient = gradient,
                        .stream = stream});
      return;
    }
    const DType moments = settings_.optimizer == Optimizer::adamw_bf16 ? DType::bf16 : wide;
    const bool master = has_master(parameter, settings_.optimizer);
    all_.push_back(
        {.parameter = master ? b.state(master_state(slice), wide, slice.shape, parameter.role) : own,
         .m = moment(1, moments, slice.shape),
         .v = moment(2, moments, slice.shape),
         .gradient = gradient,
         .copy = master ? own : kNone,
         .stream = stream});
  }

  void write(ProgramBuilder& b, const std::string& suffix, double weight_decay, TensorId hyper,
             TensorId stats, TensorId random) const {
    ops::AdamWSettings adamw = settings_.adamw;
    adamw.weight_decay = weight_decay;
    if (!all_.empty()) ops::adamw(b, "adamw" + suffix, all_, hyper, stats, adamw, random);
    if (!small_.empty()) ops::adamw_8bit(b, "adamw_8bit" + suffix, small_, hyper, stats, adamw, random);
  }

 private:
  const UpdateSettings& settings_;
  std::vector<ops::AdamWOperands> all_;
  std::vector<ops::AdamW8bitOperands> small_;
};

}  // namespace

Program build_update_program(const ParameterTable& table, const UpdateSettings& settings, DeviceKind device) {
  Program program{.name = "update", .device = device};
  ProgramBuilder b(program);
  b.set_phase(Phase::update);
  const TensorId hyper = b.input("hyper", DType::f64, {2});
  const TensorId stats = b.state("optimizer.stats", DType::f64, {2}, Role::counter);
  const TensorId random = settings.stochastic_rounding ? b.input("random", DType::i64, {3}) : kNone;
  const TensorId embedding_hyper =
      settings.embedding_rate ? b.input("embedding_hyper", DType::f64, {2}) : kNone;
  UpdateCalls updates(settings), updates_without_decay(settings), embedding_updates(settings);
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
      gradients.push_back(g);
      const bool spared = settings.adamw.weight_decay != 0 && !decays(slice.name);
      const bool own_rate = settings.embedding_rate && is_embedding(slice.name);
      (own_rate ? embedding_updates
       : spared ? updates_without_decay
                : updates)
          .add(b, parameter, slice, b.rows(state, slice.row_begin, rows), g);
    }
  }
  ops::gradient_norm(b, "gradient_norm", gradients, settings.max_grad_norm, stats);
  updates.write(b, "", settings.adamw.weight_decay, hyper, stats, random);
  updates_without_decay.write(b, ".no_decay", 0, hyper, stats, random);
  if (settings.embedding_rate)
    embedding_updates.write(b, ".embedding", settings.adamw.weight_decay, embedding_hyper, stats, random);
  for (const TensorId g : unused) ops::fill_zero(b, "frozen_gradient", g);
  return program;
}

}  // namespace serval
