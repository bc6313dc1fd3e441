// The programs of a training run: one for a micro-step (forward, loss, backward), one for the optimizer, one
// for evaluation. They share states by name and one arena.
//
// Inputs of the batch programs, all i32 unless said:
//   num_tokens[1], num_boundaries[1] (documents + 1), num_labels[1]
//   input_ids[T], position_ids[T], cu_seqlens[documents + 1], label_rows[L], labels[L], row_weights f32[L]
//   random i64[3] (seed, step, micro-step), only where adapters drop out.
// States: loss.sums f64[4] (see ops/head), optimizer.stats f64[2] (norm, clip factor).
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "data/batch_stream.h"
#include "models/decoder_config.h"
#include "nn/network.h"
#include "ops/adamw/adamw.h"
#include "plan/fit.h"
#include "program/program.h"

namespace serval {

enum class Recompute {
  none,    // keep everything that backward reads
  cheap,   // norms, rotations and activations are computed again: the default
  blocks,  // keep only each block's input (gradient checkpointing)
  fitted,  // what was chosen to fit a memory limit (plan/fit.h)
};
const char* name_of(Recompute recompute);

// What a training program keeps where between forward and backward. The bits of a result do not depend on it.
struct MemoryOptions {
  Recompute recompute = Recompute::cheap;
  RecomputeChoice choice;       // of Recompute::fitted
  bool offload_inputs = false;  // each layer's input waits in pinned host memory
};

Program build_train_program(const DecoderConfig& config, const NetworkOptions& options,
                            const BatchCapacity& capacity, const MemoryOptions& memory, ParameterTable& table,
                            DeviceKind device = DeviceKind::cpu);
// The choice of least time with which that program's arena keeps to the budget; the leanest one where none
// does. `memory.recompute` is not read.
RecomputeChoice fit_train_program(const DecoderConfig& config, const NetworkOptions& options,
                                  const BatchCapacity& capacity, const MemoryOptions& memory,
                                  int64_t arena_budget, DeviceKind device = DeviceKind::cpu);
Program build_eval_program(const DecoderConfig& config, const NetworkOptions& options,
                           const BatchCapacity& capacity, ParameterTable& table,
                           DeviceKind device = DeviceKind::cpu);

// All are AdamW; they differ in what they keep between steps.
enum class Optimizer {
  adamw,       // f32 moments, and an f32 master of each weight that the products read in another form
  adamw_8bit,  // moments of 8 bits (see ops/adamw_8bit), f32 ones of tensors below 4096 elements; no masters
  adamw_bf16,  // bf16 moments; no masters
};
Optimizer optimizer_from_name(std::string_view name);  // as the key `optim` has them

struct UpdateSettings {
  ops::AdamWSettings adamw;
  double max_grad_norm = 0;
  Optimizer optimizer = Optimizer::adamw;
  bool stochastic_rounding = false;  // of weights and second moments that are kept in bf16
  bool embedding_rate = false;       // embeddings and head have a learning rate of their own
};
// inputs: hyper f64[2] (learning rate, step counted from 1); embedding_hyper, the same of embeddings and
// head, only where they have a rate of their own; random i64[3] (seed, step, 0), only where the update rounds
// stochastically.
Program build_update_program(const ParameterTable& table, const UpdateSettings& settings,
                             DeviceKind device = DeviceKind::cpu);

// Weight decay spares biases and norms, as transformers' Trainer does.
bool decays(const std::string& parameter_name);

// Whether the parameter belongs to the embeddings or the head.
bool is_embedding(const std::string& parameter_name);

// Whether the optimizer updates an f32 master of the parameter instead of the parameter itself.
bool has_master(const Parameter& parameter, Optimizer optimizer);

}  // namespace serval
