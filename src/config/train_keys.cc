// The one table of training keys. A row binds its key to a field of TrainConfig.
#include "config/train_keys.h"

#include <limits>
#include <utility>

namespace serval {
namespace {

constexpr double kMaxCount = 1e9;
constexpr double kMaxSeed = 9007199254740992.0;  // exact in every reader of the written configuration
using C = TrainConfig;

std::vector<TrainRow> make_rows() {
  std::vector<TrainRow> rows;
  std::string section;
  const auto row = [&](Field field, Key key) {
    key.section = section;
    rows.push_back({std::move(key), field});
  };

  section = "model";
  row(&C::model_name_or_path,
      {.name = "model_name_or_path",
       .meaning = "Checkpoint to start from: a Hugging Face directory, or org/name in the local cache.",
       .origin = "TRL",
       .aliases = {"model", "base_model"},
       .unset = "required unless init is given"});
  row(&C::init, {.name = "init", .meaning = "A config.json: train that model from random weights instead."});
  row(&C::tokenizer_name_or_path,
      {.name = "tokenizer_name_or_path",
       .meaning = "Directory to read the tokenizer from, or its file: tokenizer.json, "
                  "tokenizer.model, tekken.json, a GGUF ... (docs/tokenizers.md).",
       .origin = "Axolotl",
       .aliases = {"tokenizer", "tokenizer_name", "tokenizer_config"},
       .unset = "beside the model or the init file"});
  row(&C::chat_template,
      {.name = "chat_template",
       .meaning = "Chat template to use instead of the tokenizer's own: the name of a built-in one (chatml, "
                  "llama-3.1, qwen-3, gemma-3 ...) or a Jinja file.",
       .origin = "Unsloth",
       .aliases = {"chat_template_path", "template"},
       .unset = "the one beside the adapter, else the tokenizer's own"});
  row(&C::dtype, {.name = "dtype",
                  .fallback = "auto",
                  .meaning = "Type that weights are held and products computed in; auto is the checkpoint's.",
                  .origin = "TRL",
                  .aliases = {"torch_dtype"},
                  .choices = {"auto", "bfloat16", "float32"},
                  .synonyms = {{"bf16", "bfloat16"}, {"fp32", "float32"}, {"f32", "float32"}}});
  row(&C::ignore_config_key,
      {.name = "ignore_config_key",
       .kind = Kind::texts,
       .fallback = Json::array(),
       .meaning = "Keys of the model's config.json to disregard although they are unknown.",
       .aliases = {"ignore_config_keys"}});

  section = "vocabulary";
  row(&C::new_tokens,
      {.name = "new_tokens",
       .kind = Kind::texts,
       .fallback = Json::array(),
       .meaning =
           "Tokens to add, each a word that is kept whole; embeddings and head get the rows they need.",
       .origin = "Unsloth",
       .aliases = {"tokens", "add_tokens"}});
  row(&C::new_special_tokens, {.name = "new_special_tokens",
                               .kind = Kind::texts,
                               .fallback = Json::array(),
                               .meaning = "The same for special tokens, which generated text leaves out.",
                               .origin = "LLaMA-Factory",
                               .aliases = {"add_special_tokens", "additional_special_tokens"}});
  row(&C::special_tokens,
      {.name = "special_tokens",
       .kind = Kind::names,
       .fallback = Json::object(),
       .meaning = "Names bos_token, eos_token, pad_token and unk_token; one that is no token yet is added.",
       .origin = "Axolotl"});
  row(&C::eos_token, {.name = "eos_token",
                      .meaning = "The token that ends a text; it must be there or be added.",
                      .origin = "TRL",
                      .unset = "the tokenizer's"});
  row(&C::pad_token,
      {.name = "pad_token",
       .meaning = "The token that fills up rows elsewhere (Serval never pads); it must be there or be added.",
       .origin = "TRL",
       .unset = "the tokenizer's"});
  row(&C::new_token_init,
      {.name = "new_token_init",
       .fallback = "mean",
       .meaning =
           "What the rows of new tokens begin as: the mean of all trained rows, or a mixture of it with "
           "the mean of the tokens that spelled the new one before.",
       .origin = "Unsloth",
       .aliases = {"new_tokens_method"},
       .choices = {"mean", "interpolation"}});
  row(&C::new_token_interpolation, {.name = "new_token_interpolation",
                                    .kind = Kind::number,
                                    .fallback = 0.5,
                                    .meaning = "With interpolation, the share of the tokens that spelled it.",
                                    .origin = "Unsloth",
                                    .minimum = 0,
                                    .maximum = 1});
  row(&C::resize_vocab,
      {.name = "resize_vocab",
       .kind = Kind::flag,
       .fallback = false,
       .meaning =
           "Give every token of the tokenizer a row where the model has fewer; new tokens always get one. "
           "Rows that are too many stay.",
       .origin = "LLaMA-Factory"});
  row(&C::resize_vocab_to_multiple_of, {.name = "resize_vocab_to_multiple_of",
                                        .kind = Kind::integer,
                                        .fallback = 1,
                                        .meaning = "Round the number of rows up to a multiple of this.",
                                        .minimum = 1,
                                        .maximum = 65536});
  row(&C::fix_untrained_tokens,
      {.name = "fix_untrained_tokens",
       .kind = Kind::flag,
       .fallback = false,
       .meaning =
           "Rows of zeros in embeddings and head, which nobody trained, become the mean of the trained.",
       .origin = "Unsloth"});

  section = "data";
  row(&C::dataset,
      {.name = "dataset",
       .kind = Kind::datasets,
       .meaning = "What to train on: files (JSONL, JSON, CSV, TSV, text, Parquet, Arrow; .gz and .zst), "
                  "directories, patterns, org/name in Hugging Face's cache; or maps of path, name, split, "
                  "data_files, ds_type, sample_by, delimiter, weight (docs/data.md).",
       .origin = "Axolotl",
       .aliases = {"dataset_name", "datasets", "train_file"},
       .unset = "required to train"});
  row(&C::eval_dataset, {.name = "eval_dataset",
                         .kind = Kind::datasets,
                         .meaning = "What is held out from training, for the evaluation loss.",
                         .aliases = {"eval_datasets", "test_datasets", "validation_file"}});
  row(Unbound{}, {.name = "dataset_config",
                  .meaning = "Configuration of datasets that have several.",
                  .origin = "TRL",
                  .aliases = {"dataset_config_name"}});
  row(Unbound{}, {.name = "dataset_train_split",
                  .meaning = "Split to train on, perhaps sliced: train[:10%].",
                  .origin = "TRL",
                  .unset = "train"});
  row(Unbound{}, {.name = "dataset_test_split",
                  .meaning = "Split to evaluate on; without eval_dataset, of the dataset itself.",
                  .origin = "TRL",
                  .unset = "of an eval_dataset that has them, test or validation"});
  row(&C::mix_strategy,
      {.name = "mix_strategy",
       .meaning = "How several datasets make one: concat takes all rows of each; interleave_under takes "
                  "shares by weight until the first has no more, interleave_over until the last has "
                  "none, repeating the others. Rows are shuffled together.",
       .origin = "LLaMA-Factory",
       .choices = {"concat", "interleave_under", "interleave_over"},
       .synonyms = {{"first_exhausted", "interleave_under"}, {"all_exhausted", "interleave_over"}},
       .unset = "interleave_under with a weight, else concat"});
  row(&C::dataset_cache, {.name = "dataset_cache",
                          .kind = Kind::flag,
                          .fallback = true,
                          .meaning = "Keep unpacked and tokenised data for the next run."});
  row(&C::dataset_cache_dir, {.name = "dataset_cache_dir",
                              .meaning = "Where unpacked and tokenised data is kept.",
                              .aliases = {"dataset_prepared_path"},
                              .unset = "$XDG_CACHE_HOME/serval or ~/.cache/serval"});
  row(&C::dataset_cache_limit,
      {.name = "dataset_cache_limit",
       .kind = Kind::bytes,
       .fallback = int64_t{64} << 30,
       .meaning = "What was not used for longest is removed where the cache grows beyond this.",
       .minimum = 0});
  row(&C::dataset_text_field, {.name = "dataset_text_field",
                               .fallback = "text",
                               .meaning = "Column that holds plain text.",
                               .origin = "TRL"});
  row(&C::dataset_format,
      {.name = "dataset_format",
       .fallback = "auto",
       .meaning = "Shape of the rows, where their columns do not tell it rightly: messages (sharegpt, "
                  "openai), alpaca, prompt_completion, text, preference (dpo), unpaired (kto), ... as "
                  "docs/data.md lists them.",
       .aliases = {"format_type", "dataset_type"}});
  row(&C::dataset_columns,
      {.name = "dataset_columns",
       .kind = Kind::names,
       .fallback = Json::object(),
       .meaning = "What columns mean: prompt=question,completion=answer; role and content name the keys of a "
                  "message.",
       .aliases = {"columns", "column_mapping"}});
  row(&C::merged_prompt,
      {.name = "merged_prompt",
       .fallback = "",
       .meaning = "Make the user's message of several columns: {column} is its text, [[...]] is left out "
                  "where a column in it is empty.",
       .origin = "Unsloth"});
  row(&C::output_column_name, {.name = "output_column_name",
                               .fallback = "output",
                               .meaning = "With merged_prompt, the column of the answer.",
                               .origin = "Unsloth"});
  row(&C::conversation_extension,
      {.name = "conversation_extension",
       .kind = Kind::integer,
       .fallback = 1,
       .meaning = "With merged_prompt, put this many rows drawn at random in one conversation.",
       .origin = "Unsloth",
       .minimum = 1,
       .maximum = 1000});
  row(&C::max_length,
      {.name = "max_length",
       .kind = Kind::integer,
       .fallback = 1024,
       .meaning = "Longest sequence in tokens; truncation_mode says what becomes of longer ones. Also the "
                  "length of a packed row.",
       .origin = "TRL",
       .aliases = {"max_seq_length", "sequence_len", "cutoff_len"},
       .minimum = 2,
       .maximum = 16777216});
  row(&C::truncation_mode,
      {.name = "truncation_mode",
       .fallback = "keep_start",
       .meaning = "What becomes of a row longer than max_length: its start or its end is kept, the row is "
                  "left out, or it is an error.",
       .origin = "TRL",
       .choices = {"keep_start", "keep_end", "drop", "error"},
       .synonyms = {{"truncate", "keep_start"}, {"raise", "error"}}});
  row(&C::packing, {.name = "packing",
                    .kind = Kind::flag,
                    .fallback = false,
                    .meaning = "Put several documents in a row of max_length; none sees another.",
                    .origin = "TRL",
                    .aliases = {"sample_packing"}});
  row(&C::packing_strategy, {.name = "packing_strategy",
                             .fallback = "bfd",
                             .meaning = "How documents are put in rows. bfd: best fit, longest first, "
                                        "long ones truncated; bfd_split: long ones go on in another row; "
                                        "wrapped: end to end, cut anywhere, and a row sees all of itself.",
                             .origin = "TRL",
                             .choices = {"bfd", "bfd_split", "wrapped"},
                             .synonyms = {{"bfd-requeue", "bfd_split"}}});
  row(&C::packing_window, {.name = "packing_window",
                           .kind = Kind::integer,
                           .fallback = 0,
                           .meaning = "Documents that are packed at a time, in their order; 0 is all.",
                           .minimum = 0,
                           .maximum = kMaxCount});
  row(&C::padding_free,
      {.name = "padding_free",
       .kind = Kind::flag,
       .fallback = true,
       .meaning = "Lay the documents of a batch end to end. Serval always does; the key is read so "
                  "that configurations of TRL work.",
       .origin = "TRL"});
  row(&C::assistant_only_loss, {.name = "assistant_only_loss",
                                .kind = Kind::flag,
                                .fallback = false,
                                .meaning = "Loss on the assistant's tokens alone (conversations).",
                                .origin = "TRL",
                                .aliases = {"train_on_responses_only"}});
  row(&C::completion_only_loss, {.name = "completion_only_loss",
                                 .kind = Kind::flag,
                                 .meaning = "Loss on the completion alone (prompt and completion rows).",
                                 .origin = "TRL",
                                 .unset = "true for prompt/completion rows"});
  row(&C::train_on_roles, {.name = "train_on_roles",
                           .kind = Kind::texts,
                           .fallback = Json::array(),
                           .meaning = "Loss on what these roles say alone (assistant, tool, ...).",
                           .origin = "Axolotl",
                           .aliases = {"roles_to_train"}});
  row(&C::train_on_inputs,
      {.name = "train_on_inputs",
       .kind = Kind::flag,
       .meaning = "Loss on prompts and on what others than the assistant say too; false: on answers alone.",
       .origin = "Axolotl",
       .aliases = {"train_on_prompt"},
       .unset = "as completion_only_loss and assistant_only_loss say"});
  row(&C::train_on_eos,
      {.name = "train_on_eos",
       .meaning = "Which tokens that end a turn are trained: of each trained turn, of all turns, of the last "
                  "trained one, or none. Loss is then on turns up to these tokens (of the assistant, unless "
                  "train_on_roles names others).",
       .origin = "Axolotl",
       .aliases = {"train_on_eot"},
       .choices = {"turn", "all", "last", "none"},
       .unset = "what the template writes after an answer"});
  row(&C::eot_tokens, {.name = "eot_tokens",
                       .kind = Kind::texts,
                       .fallback = Json::array(),
                       .meaning = "Tokens that end a turn, for train_on_eos.",
                       .origin = "Axolotl",
                       .unset = "the end-of-text token"});
  row(&C::last_turn_only,
      {.name = "last_turn_only",
       .kind = Kind::flag,
       .fallback = false,
       .meaning = "Loss on the last turn alone: of the assistant, of train_on_roles, or after the last "
                  "response_part.",
       .aliases = {"last_response_only", "mask_history"}});
  row(&C::instruction_part, {.name = "instruction_part",
                             .fallback = "",
                             .meaning = "Text that begins what is not trained, as the template writes it.",
                             .origin = "Unsloth"});
  row(&C::response_part, {.name = "response_part",
                          .fallback = "",
                          .meaning = "Text after which a response begins, up to the next instruction_part: "
                                     "loss on responses alone.",
                          .origin = "Unsloth"});
  row(&C::prompt_loss_weight,
      {.name = "prompt_loss_weight",
       .kind = Kind::number,
       .fallback = 0.0,
       .meaning = "How much a token counts that the masks leave out; the loss divides "
                  "by the sum of all weights. Evaluation leaves such tokens out.",
       .minimum = 0,
       .maximum = 1000});
  row(&C::preview, {.name = "preview",
                    .kind = Kind::integer,
                    .fallback = 0,
                    .meaning = "Print this many examples first, coloured by what the loss counts.",
                    .minimum = 0,
                    .maximum = 10000});

  section = "training";
  row(&C::per_device_train_batch_size, {.name = "per_device_train_batch_size",
                                        .kind = Kind::integer,
                                        .fallback = 8,
                                        .meaning = "Sequences (with packing: rows) in a micro-step.",
                                        .origin = "Transformers",
                                        .aliases = {"micro_batch_size", "batch_size"},
                                        .minimum = 1,
                                        .maximum = 65536});
  row(&C::per_device_eval_batch_size, {.name = "per_device_eval_batch_size",
                                       .kind = Kind::integer,
                                       .fallback = 8,
                                       .meaning = "Sequences in a step of evaluation.",
                                       .origin = "Transformers",
                                       .aliases = {"eval_batch_size"},
                                       .minimum = 1,
                                       .maximum = 65536});
  row(&C::gradient_accumulation_steps,
      {.name = "gradient_accumulation_steps",
       .kind = Kind::integer,
       .fallback = 1,
       .meaning = "Micro-steps in an optimiser step; the loss is the mean over the "
                  "tokens of all of them.",
       .origin = "Transformers",
       .minimum = 1,
       .maximum = 65536});
  row(&C::learning_rate, {.name = "learning_rate",
                          .kind = Kind::number,
                          .meaning = "Peak learning rate.",
                          .origin = "TRL",
                          .aliases = {"lr"},
                          .minimum = 0,
                          .maximum = 100,
                          .unset = "0.0002 with LoRA, 2e-05 without"});
  row(&C::embedding_learning_rate,
      {.name = "embedding_learning_rate",
       .kind = Kind::number,
       .meaning = "Peak learning rate of embeddings and head, where they train in full.",
       .origin = "Unsloth",
       .aliases = {"embedding_lr"},
       .minimum = 0,
       .maximum = 100,
       .unset = "learning_rate"});
  row(&C::lr_scheduler_type,
      {.name = "lr_scheduler_type",
       .fallback = "linear",
       .meaning = "Course of the learning rate after warm-up; linear and cosine end at 0, "
                  "constant takes no warm-up.",
       .origin = "Transformers",
       .aliases = {"lr_scheduler"},
       .choices = {"linear", "cosine", "constant", "constant_with_warmup"}});
  row(&C::warmup_ratio, {.name = "warmup_ratio",
                         .kind = Kind::number,
                         .meaning = "Share of all steps in which the learning rate rises from 0.",
                         .origin = "Transformers",
                         .minimum = 0,
                         .maximum = 1});
  row(&C::warmup_steps, {.name = "warmup_steps",
                         .kind = Kind::integer,
                         .fallback = 0,
                         .meaning = "Steps in which the learning rate rises from 0.",
                         .origin = "Transformers",
                         .minimum = 0,
                         .maximum = kMaxCount});
  row(&C::num_train_epochs, {.name = "num_train_epochs",
                             .kind = Kind::number,
                             .fallback = 3.0,
                             .meaning = "Passes over the data; a fraction ends within one.",
                             .origin = "Transformers",
                             .aliases = {"num_epochs", "epochs"},
                             .minimum = 0,
                             .maximum = 1e6,
                             .above_minimum = true});
  row(&C::max_steps,
      {.name = "max_steps",
       .kind = Kind::integer,
       .fallback = -1,
       .meaning = "Optimiser steps in all; where above 0 it decides instead of num_train_epochs.",
       .origin = "Transformers",
       .minimum = -1,
       .maximum = kMaxCount});
  row(&C::optim, {.name = "optim",
                  .fallback = "adamw_torch",
                  .meaning = "Optimiser: AdamW with f32 moments and f32 masters of bf16 weights; with 8-bit "
                             "moments in blocks, as bitsandbytes has them; or with bf16 moments. The last "
                             "two update bf16 weights in place. Nothing is paged to the host.",
                  .origin = "Transformers",
                  .aliases = {"optimizer"},
                  .choices = {"adamw_torch", "adamw_8bit", "adamw_bf16"},
                  .synonyms = {{"adamw_torch_fused", "adamw_torch"},
                               {"adamw", "adamw_torch"},
                               {"adamw_bnb_8bit", "adamw_8bit"},
                               {"paged_adamw_8bit", "adamw_8bit"}}});
  row(&C::stochastic_rounding,
      {.name = "stochastic_rounding",
       .kind = Kind::flag,
       .fallback = false,
       .meaning = "With adamw_8bit or adamw_bf16, round updated bf16 weights (and bf16 second moments) up or "
                  "down at random so that small updates count on average; repeatable, from the seed."});
  row(&C::adam_beta1, {.name = "adam_beta1",
                       .kind = Kind::number,
                       .fallback = 0.9,
                       .meaning = "Decay of the first moment.",
                       .origin = "Transformers",
                       .minimum = 0,
                       .maximum = 0.999999});
  row(&C::adam_beta2, {.name = "adam_beta2",
                       .kind = Kind::number,
                       .fallback = 0.999,
                       .meaning = "Decay of the second moment.",
                       .origin = "Transformers",
                       .minimum = 0,
                       .maximum = 0.999999});
  row(&C::adam_epsilon, {.name = "adam_epsilon",
                         .kind = Kind::number,
                         .fallback = 1e-8,
                         .meaning = "Added to the root of the second moment.",
                         .origin = "Transformers",
                         .minimum = 0,
                         .maximum = 1,
                         .above_minimum = true});
  row(&C::weight_decay, {.name = "weight_decay",
                         .kind = Kind::number,
                         .fallback = 0.0,
                         .meaning = "Decoupled weight decay; norms and biases are left out.",
                         .origin = "Transformers",
                         .minimum = 0,
                         .maximum = 100});
  row(&C::max_grad_norm, {.name = "max_grad_norm",
                          .kind = Kind::number,
                          .fallback = 1.0,
                          .meaning = "Gradients are scaled down to this norm; 0 leaves them as they are.",
                          .origin = "Transformers",
                          .minimum = 0,
                          .maximum = 1e30});
  row(&C::seed, {.name = "seed",
                 .kind = Kind::integer,
                 .fallback = 42,
                 .meaning = "Seed of the weights drawn at random and of dropout.",
                 .origin = "Transformers",
                 .minimum = 0,
                 .maximum = kMaxSeed});
  row(&C::data_seed, {.name = "data_seed",
                      .kind = Kind::integer,
                      .meaning = "Seed of the order of the data.",
                      .origin = "Transformers",
                      .minimum = 0,
                      .maximum = kMaxSeed,
                      .unset = "the seed"});

  section = "adapter";
  row(&C::use_peft, {.name = "use_peft",
                     .kind = Kind::flag,
                     .meaning = "Train a LoRA adapter; false trains the weights themselves.",
                     .origin = "TRL",
                     .unset = "true, with init false"});
  row(&C::lora_r, {.name = "lora_r",
                   .kind = Kind::integer,
                   .fallback = 16,
                   .meaning = "Rank of the adapter.",
                   .origin = "TRL",
                   .aliases = {"lora_rank"},
                   .minimum = 1,
                   .maximum = 65536});
  row(&C::lora_alpha, {.name = "lora_alpha",
                       .kind = Kind::integer,
                       .fallback = 16,
                       .meaning = "The adapter is scaled by alpha / r (with use_rslora by alpha / sqrt(r)).",
                       .origin = "PEFT",
                       .minimum = 1,
                       .maximum = 1048576});
  row(&C::lora_dropout, {.name = "lora_dropout",
                         .kind = Kind::number,
                         .fallback = 0.0,
                         .meaning = "Dropout on the adapter's input.",
                         .origin = "PEFT",
                         .minimum = 0,
                         .maximum = 0.999});
  row(&C::lora_target_modules,
      {.name = "lora_target_modules",
       .kind = Kind::texts,
       .fallback = Json(Json::Array{Json("all-linear")}),
       .meaning =
           "Modules that get an adapter: names or suffixes, one regular expression for the whole name, "
           "or all-linear (every linear but the head).",
       .origin = "TRL",
       .aliases = {"target_modules", "lora_target"}});
  row(&C::lora_exclude_modules, {.name = "lora_exclude_modules",
                                 .kind = Kind::texts,
                                 .fallback = Json::array(),
                                 .meaning = "Modules left out although lora_target_modules names them.",
                                 .origin = "PEFT",
                                 .aliases = {"exclude_modules"}});
  row(&C::use_rslora, {.name = "use_rslora",
                       .kind = Kind::flag,
                       .fallback = false,
                       .meaning = "Rank-stabilised scale: alpha / sqrt(r).",
                       .origin = "PEFT",
                       .aliases = {"lora_use_rslora", "peft_use_rslora"}});
  row(&C::lora_rank_pattern, {.name = "lora_rank_pattern",
                              .kind = Kind::counts,
                              .fallback = Json::object(),
                              .meaning = "Ranks of single modules: name or pattern to rank.",
                              .origin = "PEFT",
                              .aliases = {"rank_pattern"},
                              .minimum = 1,
                              .maximum = 65536});
  row(&C::lora_alpha_pattern, {.name = "lora_alpha_pattern",
                               .kind = Kind::counts,
                               .fallback = Json::object(),
                               .meaning = "Alphas of single modules: name or pattern to alpha.",
                               .origin = "PEFT",
                               .aliases = {"alpha_pattern"},
                               .minimum = 1,
                               .maximum = 1048576});
  row(&C::lora_layers_to_transform, {.name = "lora_layers_to_transform",
                                     .kind = Kind::integers,
                                     .fallback = Json::array(),
                                     .meaning = "Numbers of the layers that get an adapter; none: all.",
                                     .origin = "PEFT",
                                     .aliases = {"layers_to_transform", "peft_layers_to_transform"},
                                     .minimum = 0,
                                     .maximum = 100000});
  row(&C::lora_modules_to_save,
      {.name = "lora_modules_to_save",
       .kind = Kind::texts,
       .fallback = Json::array(),
       .meaning =
           "Modules that train in full beside the adapter and are saved in it, by the ends of their names: "
           "embed_tokens, lm_head where new tokens are to be learned.",
       .origin = "TRL",
       .aliases = {"modules_to_save", "additional_target"}});
  row(&C::adapter_name_or_path,
      {.name = "adapter_name_or_path",
       .meaning = "Continue from this PEFT adapter; its own rank, alpha and modules hold.",
       .aliases = {"adapter", "lora_model_dir"}});
  row(&C::trainable,
      {.name = "trainable",
       .kind = Kind::texts,
       .fallback = Json::array(),
       .meaning = "Patterns of parameter names that train in full, beside the adapter or, without "
                  "one, instead of all.",
       .aliases = {"unfrozen_parameters"}});
  row(&C::frozen, {.name = "frozen",
                   .kind = Kind::texts,
                   .fallback = Json::array(),
                   .meaning = "Patterns of parameter names that do not train."});
  row(&C::merge, {.name = "merge",
                  .kind = Kind::flag,
                  .fallback = true,
                  .meaning = "Write the merged checkpoint too at the end (output_dir/merged).",
                  .aliases = {"merge_adapter"}});

  section = "memory";
  row(Unbound{}, {.name = "gradient_checkpointing",
                  .kind = Kind::flag,
                  .meaning = "Another way to say recompute: true is blocks, false is cheap.",
                  .origin = "Transformers"});
  row(&C::recompute,
      {.name = "recompute",
       .meaning =
           "What backward computes again instead of keeping it: none; cheap (norms, RoPE, "
           "activations); blocks (all but each block's input); auto: cheap, and of the other tensors, one by "
           "one, as few as make the run fit memory_limit. The bits of the result are the same.",
       .choices = {"auto", "none", "cheap", "blocks"},
       .unset = "auto, or as gradient_checkpointing says"});
  row(&C::activation_offloading,
      {.name = "activation_offloading",
       .kind = Kind::flag,
       .fallback = false,
       .meaning =
           "Each layer's input waits for backward in pinned host memory, copied beside the layers' work. "
           "Of use with gradient_checkpointing, which keeps nothing else, and then its default. The bits of "
           "the result are the same.",
       .origin = "TRL"});
  row(&C::memory_limit,
      {.name = "memory_limit",
       .kind = Kind::bytes,
       .meaning = "Memory that the run may need: recompute auto fits it, and a run that cannot is refused.",
       .minimum = 1048576,
       .unset = "what the device has free"});

  section = "logging and checkpoints";
  row(&C::output_dir,
      {.name = "output_dir",
       .fallback = "trainer_output",
       .meaning = "Where adapter, merged checkpoint, checkpoints, metrics.jsonl, loss.svg and the "
                  "resolved configuration are written.",
       .origin = "TRL"});
  row(&C::overwrite_output_dir, {.name = "overwrite_output_dir",
                                 .kind = Kind::flag,
                                 .fallback = false,
                                 .meaning = "Replace the result of an earlier run in output_dir.",
                                 .origin = "Transformers"});
  row(&C::logging_steps, {.name = "logging_steps",
                          .kind = Kind::integer,
                          .fallback = 10,
                          .meaning = "Print a line each so many steps; metrics.jsonl has every step.",
                          .origin = "Transformers",
                          .minimum = 1,
                          .maximum = kMaxCount});
  row(&C::eval_strategy, {.name = "eval_strategy",
                          .meaning = "When to evaluate.",
                          .origin = "Transformers",
                          .aliases = {"evaluation_strategy"},
                          .choices = {"no", "steps", "epoch"},
                          .unset = "steps with eval_steps, else epoch with eval_dataset, else no"});
  row(&C::eval_steps, {.name = "eval_steps",
                       .kind = Kind::integer,
                       .meaning = "Evaluate each so many steps.",
                       .origin = "Transformers",
                       .minimum = 1,
                       .maximum = kMaxCount,
                       .unset = "logging_steps with eval_strategy steps"});
  row(&C::save_strategy, {.name = "save_strategy",
                          .fallback = "steps",
                          .meaning = "When to write a checkpoint to resume from.",
                          .origin = "Transformers",
                          .choices = {"no", "steps", "epoch"}});
  row(&C::save_steps, {.name = "save_steps",
                       .kind = Kind::integer,
                       .fallback = 500,
                       .meaning = "Write a checkpoint each so many steps.",
                       .origin = "Transformers",
                       .minimum = 1,
                       .maximum = kMaxCount});
  row(&C::save_total_limit, {.name = "save_total_limit",
                             .kind = Kind::integer,
                             .meaning = "Keep at most this many checkpoints, the newest.",
                             .origin = "Transformers",
                             .minimum = 1,
                             .maximum = kMaxCount,
                             .unset = "all"});
  row(&C::resume_from_checkpoint, {.name = "resume_from_checkpoint",
                                   .meaning = "Continue a run bit for bit: true (the last checkpoint in "
                                              "output_dir) or the path of a checkpoint.",
                                   .origin = "Transformers",
                                   .aliases = {"resume"},
                                   .synonyms = {{"True", "true"}, {"yes", "true"}},
                                   .implied = "true"});
  row(&C::progress, {.name = "progress",
                     .kind = Kind::flag,
                     .fallback = true,
                     .meaning = "Show the progress line; false prints plain lines only."});

  section = "system";
  row(&C::device,
      {.name = "device",
       .fallback = "auto",
       .meaning = "Where to compute: cpu, cuda, cuda:N; auto takes the first GPU, else the CPU."});
  row(&C::graphs, {.name = "graphs",
                   .kind = Kind::flag,
                   .fallback = true,
                   .meaning = "On a GPU, run each program as one recorded graph; --no-graphs starts its "
                              "kernels one by one, with equal bits."});
  row(&C::num_threads, {.name = "num_threads",
                        .kind = Kind::integer,
                        .meaning = "Threads of the products and kernels.",
                        .aliases = {"threads"},
                        .minimum = 1,
                        .maximum = 4096,
                        .unset = "one a physical core"});
  row(&C::deterministic,
      {.name = "deterministic",
       .kind = Kind::flag,
       .fallback = false,
       .meaning = "On a GPU, equal bits in every run, at some cost in speed. The CPU always gives them.",
       .aliases = {"full_determinism"}});
  row(&C::attn_implementation,
      {.name = "attn_implementation",
       .fallback = "auto",
       .meaning = "On a GPU: auto takes cuDNN where it covers the case, own always takes Serval's kernels.",
       .origin = "Transformers",
       .choices = {"auto", "own"}});
  row(&C::check_nan,
      {.name = "check_nan",
       .kind = Kind::flag,
       .fallback = false,
       .meaning = "Look at every result and name the op, layer and tensor of the first NaN or Inf."});
  row(&C::dry_run, {.name = "dry_run",
                    .kind = Kind::flag,
                    .fallback = false,
                    .meaning = "Stop after printing the resolved configuration and the plan."});
  return rows;
}

}  // namespace

const std::vector<TrainRow>& train_rows() {
  static const std::vector<TrainRow> rows = make_rows();
  return rows;
}

const KeyTable& train_table() {
  static const KeyTable table = [] {
    std::vector<Key> keys;
    for (const TrainRow& row : train_rows()) keys.push_back(row.key);
    return KeyTable(std::move(keys));
  }();
  return table;
}

}  // namespace serval
