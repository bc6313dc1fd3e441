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
#include <vector>

#include "data/batch_stream.h"
#include "models/decoder_config.h"
#include "nn/network.h"
#include "ops/adamw/adamw.h"
#include "program/program.h"

namespace serval {

enum class Recompute {
  none,    // keep everything that backward reads
  cheap,   // norms, rotations and activations are computed again: the default
  blocks,  // keep only each block's input (gradient checkpointing)
};

Program build_train_program(const DecoderConfig& config, const NetworkOptions& options,
                            const BatchCapacity& capacity, Recompute recompute, ParameterTable& table,
                            DeviceKind device = DeviceKind::cpu);
Program build_eval_program(const DecoderConfig& config, const NetworkOptions& options,
                           const BatchCapacity& capacity, ParameterTable& table,
                           DeviceKind device = DeviceKind::cpu);

struct UpdateSettings {
  ops::AdamWSettings adamw;
  double max_grad_norm = 0;
};
// inputs: hyper f64[2] (learning rate, step counted from 1).
Program build_update_program(const ParameterTable& table, const UpdateSettings& settings,
                             DeviceKind device = DeviceKind::cpu);

// Weight decay spares biases and norms, as transformers' Trainer does.
bool decays(const std::string& parameter_name);

// The type that a trained slice is updated in (its master, or the state itself).
bool has_master(const Parameter& parameter);

}  // namespace serval
