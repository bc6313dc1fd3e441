// The configuration of a training run: read once, completed once by resolve_train(), printed, and written
// beside the result. Nothing changes it afterwards. The rows behind the fields are in train_keys.cc.
//
//   const Arguments arguments = parse_arguments(train_verb(), words);
//   const ResolvedTrain resolved = resolve_train(arguments.settings);
//   log_line(print_resolved(resolved.settings));
//   write_file_atomically(join_path(resolved.config.output_dir, "serval.yaml"), to_yaml(resolved.settings));
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/dataset_source.h"
#include "config/keys.h"

namespace serval {

struct TrainConfig {
  using Patterns = std::vector<std::pair<std::string, int64_t>>;  // pattern of module names -> value
  using Names = std::vector<std::pair<std::string, std::string>>;

  // model
  std::string model_name_or_path;      // "" where `init` is set
  std::string init;                    // a config.json: start from random weights
  std::string tokenizer_name_or_path;  // "" : beside the model
  std::string chat_template;           // a built-in name or a file; "": the tokenizer's own
  std::string dtype;                   // auto, bfloat16, float32
  std::vector<std::string> new_tokens, new_special_tokens;
  Names special_tokens;              // "pad_token" and the like -> a token, added where there is none
  std::string eos_token, pad_token;  // tokens that there are; "": as they are
  bool resize_vocab = false;
  int64_t resize_vocab_to_multiple_of = 1;
  std::string new_token_init;  // mean, interpolation
  double new_token_interpolation = 0;
  bool fix_untrained_tokens = false;
  std::vector<std::string> ignore_config_key;

  // data
  std::vector<DatasetSource> dataset;
  std::vector<DatasetSource> eval_dataset;
  std::string mix_strategy;  // concat, interleave_under, interleave_over
  bool dataset_cache = true;
  std::string dataset_cache_dir;  // "": the user's cache directory
  int64_t dataset_cache_limit = 0;
  std::string dataset_text_field;
  std::string dataset_format;  // auto, or a shape of data/row_shape.h
  Names dataset_columns;       // what a column means -> its name in the file
  std::string merged_prompt, output_column_name;
  int64_t conversation_extension = 1;
  int64_t max_length = 0;
  std::string truncation_mode;  // keep_start, keep_end, drop, error
  bool packing = false;
  std::string packing_strategy;  // bfd, bfd_split, wrapped
  int64_t packing_window = 0;
  bool padding_free = false;
  bool assistant_only_loss = false;
  std::optional<bool> completion_only_loss;  // unset: true for prompt/completion rows
  std::vector<std::string> train_on_roles;
  std::optional<bool> train_on_inputs;  // unset: as the other keys say
  std::string train_on_eos;             // turn, all, last, none; "" is unset
  std::vector<std::string> eot_tokens;  // empty: the end-of-text token
  bool last_turn_only = false;
  std::string instruction_part, response_part;
  double prompt_loss_weight = 0;
  int64_t preview = 0;

  // training
  int64_t per_device_train_batch_size = 0;
  int64_t per_device_eval_batch_size = 0;
  int64_t gradient_accumulation_steps = 0;
  double learning_rate = 0;
  std::optional<double> embedding_learning_rate;
  std::string lr_scheduler_type;
  std::optional<double> warmup_ratio;  // where set, warmup_steps is 0
  int64_t warmup_steps = 0;
  double num_train_epochs = 0;
  int64_t max_steps = 0;  // -1: as many as num_train_epochs needs
  std::string optim;      // adamw_torch, adamw_8bit, adamw_bf16
  bool stochastic_rounding = false;
  double adam_beta1 = 0, adam_beta2 = 0, adam_epsilon = 0;
  double weight_decay = 0;
  double max_grad_norm = 0;  // 0: no clipping
  int64_t seed = 0, data_seed = 0;

  // adapter
  bool use_peft = true;
  int64_t lora_r = 0, lora_alpha = 0;
  double lora_dropout = 0;
  // One entry that holds a regular expression's characters is one; "all-linear" is every linear but the head;
  // else names or suffixes of modules.
  std::vector<std::string> lora_target_modules;
  std::vector<std::string> lora_exclude_modules;
  bool use_rslora = false;
  Patterns lora_rank_pattern, lora_alpha_pattern;
  std::vector<int64_t> lora_layers_to_transform;  // empty: all
  std::vector<std::string> lora_modules_to_save;  // ends of names of modules
  std::string adapter_name_or_path;
  std::vector<std::string> trainable, frozen;
  bool merge = true;

  // memory
  std::string recompute;  // auto, none, cheap, blocks; gradient_checkpointing is another way to say it
  bool activation_offloading = false;
  std::optional<int64_t> memory_limit;

  // logging and checkpoints
  std::string output_dir;
  bool overwrite_output_dir = false;
  int64_t logging_steps = 0;
  std::string eval_strategy;  // no, steps, epoch
  int64_t eval_steps = 0;     // 0 unless eval_strategy is steps
  std::string save_strategy;  // no, steps, epoch
  int64_t save_steps = 0;
  std::optional<int64_t> save_total_limit;
  std::string resume_from_checkpoint;  // "", "true" (the last one in output_dir), or a path
  bool progress = true;

  // system
  std::string device;
  bool graphs = true;
  int64_t num_threads = 0;  // 0: all physical cores
  bool deterministic = false;
  std::string attn_implementation;
  bool check_nan = false;
  bool dry_run = false;

  friend bool operator==(const TrainConfig&, const TrainConfig&) = default;
};

const KeyTable& train_table();

struct ResolvedTrain {
  TrainConfig config;
  Settings settings;               // every key with its final value and source
  std::vector<std::string> notes;  // what the user should know about how values act on each other
};

// The fields of the keys that a verb's own table shares with the training table; the others stay as they are
// constructed.
TrainConfig partial_config(const Settings& settings);

// Completes defaults that depend on other keys and refuses contradictions. `needs_dataset` is false for
// `serval plan`, which reads none.
ResolvedTrain resolve_train(const Settings& settings, bool needs_dataset = true);

// All keys by section; '*' marks what differs from its default.
std::string print_resolved(const Settings& settings);
// Reads back to the same configuration through parse_config() and resolve_train().
std::string to_yaml(const Settings& settings);
// docs/configuration.md: every key with meaning, default, range, aliases and whose name it is.
std::string configuration_markdown();

}  // namespace serval
