#include "config/train_config.h"

#include <algorithm>

#include "base/error.h"
#include "config/train_keys.h"

namespace serval {
namespace {

// Fields keep their initial value where a key is unset.
void store(TrainConfig&, Unbound, const Json&) {}
void store(TrainConfig& c, bool TrainConfig::*field, const Json& v) {
  c.*field = v.as_bool();
}
void store(TrainConfig& c, int64_t TrainConfig::*field, const Json& v) {
  c.*field = v.as_int();
}
void store(TrainConfig& c, double TrainConfig::*field, const Json& v) {
  c.*field = v.as_double();
}
void store(TrainConfig& c, std::string TrainConfig::*field, const Json& v) {
  c.*field = v.as_string();
}
void store(TrainConfig& c, std::optional<bool> TrainConfig::*field, const Json& v) {
  c.*field = v.as_bool();
}
void store(TrainConfig& c, std::optional<int64_t> TrainConfig::*field, const Json& v) {
  c.*field = v.as_int();
}
void store(TrainConfig& c, std::optional<double> TrainConfig::*field, const Json& v) {
  c.*field = v.as_double();
}
void store(TrainConfig& c, std::vector<std::string> TrainConfig::*field, const Json& v) {
  for (const Json& item : v.as_array()) (c.*field).push_back(item.as_string());
}
void store(TrainConfig& c, std::vector<DatasetSource> TrainConfig::*field, const Json& v) {
  c.*field = dataset_sources(v);
}
void store(TrainConfig& c, std::vector<int64_t> TrainConfig::*field, const Json& v) {
  for (const Json& item : v.as_array()) (c.*field).push_back(item.as_int());
}
void store(TrainConfig& c, TrainConfig::Patterns TrainConfig::*field, const Json& v) {
  for (const auto& [name, item] : v.as_object()) (c.*field).emplace_back(name, item.as_int());
}

void store(TrainConfig& c, TrainConfig::Names TrainConfig::*field, const Json& v) {
  for (const auto& [name, item] : v.as_object()) (c.*field).emplace_back(name, item.as_string());
}

TrainConfig to_struct(const Settings& settings) {
  TrainConfig config;
  for (const TrainRow& row : train_rows()) {
    if (settings.table().find(row.key.name) == nullptr) continue;
    const Json& value = settings.value(row.key.name);
    if (value.is_null()) continue;
    std::visit([&](auto field) { store(config, field, value); }, row.field);
  }
  return config;
}

bool empty_text(const Settings& s, std::string_view name) {
  return !s.has(name) || s.text(name).empty();
}

bool is_empty_list(const Settings& s, std::string_view name) {
  return !s.has(name) || s.value(name).size() == 0;
}

// Two keys that contradict each other: both sources are named.
[[noreturn]] void conflict(const Settings& s, std::string_view a, std::string_view b, std::string_view why) {
  fail_usage("{}: {} contradicts {} ({}): {}", s.source(a), a, b, s.source(b), why);
}

void check_model(const Settings& s, bool needs_dataset) {
  const bool has_model = !empty_text(s, "model_name_or_path"), has_init = !empty_text(s, "init");
  if (has_model && has_init)
    conflict(s, "init", "model_name_or_path", "random weights or a checkpoint, not both");
  if (!has_model && !has_init)
    fail_usage(
        "model_name_or_path is missing: give --model DIRECTORY, or --init config.json for random weights");
  if (needs_dataset && is_empty_list(s, "dataset"))
    fail_usage("dataset is missing: give --dataset FILE.jsonl");
}

void check_schedule(const Settings& s) {
  const bool ratio = s.has("warmup_ratio") && s.number("warmup_ratio") > 0;
  const bool steps = s.integer("warmup_steps") > 0;
  if (ratio && steps) conflict(s, "warmup_steps", "warmup_ratio", "keep one");
  if ((ratio || steps) && s.text("lr_scheduler_type") == "constant")
    conflict(s, ratio ? "warmup_ratio" : "warmup_steps", "lr_scheduler_type",
             "constant has no warm-up; use constant_with_warmup");
  if (s.integer("max_steps") == 0)
    fail_usage("{}: max_steps is 0, expected -1 or at least 1", s.source("max_steps"));
}

void check_adapter(const Settings& s) {
  const bool has_adapter = !empty_text(s, "adapter_name_or_path");
  const bool lora = s.flag("use_peft");
  if (has_adapter && !lora)
    conflict(s, "adapter_name_or_path", "use_peft", "there is no adapter to continue without use_peft");
  if (has_adapter && !empty_text(s, "init"))
    conflict(s, "adapter_name_or_path", "init", "an adapter belongs to a checkpoint, not to random weights");
  for (const char* name :
       {"lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_exclude_modules", "use_rslora",
        "lora_rank_pattern", "lora_alpha_pattern", "lora_layers_to_transform", "lora_modules_to_save"}) {
    if (!s.changed(name)) continue;
    if (!lora) conflict(s, name, "use_peft", "no adapter is trained; remove it or set use_peft: true");
    if (has_adapter && std::string_view(name) != "lora_dropout")
      conflict(s, name, "adapter_name_or_path", "the adapter's own setting holds; remove this one");
  }
  if (lora && s.texts("lora_target_modules").empty())
    fail_usage("{}: lora_target_modules is empty, expected module names or all-linear",
               s.source("lora_target_modules"));
}

void check_vocabulary(const Settings& s) {
  constexpr std::string_view kRoles[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
  for (const auto& [role, token] : s.value("special_tokens").as_object()) {
    if (std::find(std::begin(kRoles), std::end(kRoles), role) == std::end(kRoles))
      fail_usage(
          "{}: special_tokens: '{}' is none of bos_token, eos_token, pad_token, unk_token; other special "
          "tokens are new_special_tokens",
          s.source("special_tokens"), role);
    if (token.as_string().empty())
      fail_usage("{}: special_tokens: {} is empty, expected a token", s.source("special_tokens"), role);
    const bool twice = s.table().find(role) != nullptr && !empty_text(s, role);
    if (twice && s.text(role) != token.as_string())
      conflict(s, role, "special_tokens", "they name two tokens; keep one");
  }
  for (const char* name : {"new_tokens", "new_special_tokens"})
    for (const std::string& token : s.texts(name))
      if (token.empty()) fail_usage("{}: {}: an empty text is no token", s.source(name), name);
  if (s.changed("new_token_interpolation") && s.text("new_token_init") != "interpolation")
    conflict(s, "new_token_interpolation", "new_token_init", "the mean mixes nothing; set interpolation");
}

// The entries of `from` as objects, with the keys that hold for all of them where they say nothing
// themselves.
Json with_defaults(const Json& entries, const Settings& s, const char* split_key) {
  Json result = Json::array();
  for (const Json& entry : entries.as_array()) {
    Json full = Json::object();
    if (entry.is_string())
      full.set("path", entry);
    else
      full = entry;
    if (s.has("dataset_config") && !full.contains("name")) full.set("name", s.value("dataset_config"));
    if (s.has(split_key) && !full.contains("split")) full.set("split", s.value(split_key));
    result.push_back(full.size() == 1 ? full.at("path") : full);
  }
  return result;
}

void resolve_datasets(Settings& s) {
  const Json train = s.value("dataset");
  if (is_empty_list(s, "eval_dataset") && s.has("dataset_test_split") && !train.is_null()) {
    Json held_out = Json::array();
    for (const Json& entry : train.as_array()) {
      Json one = Json::object();
      one.set("path", entry.is_string() ? entry : entry.at("path"));
      if (entry.is_object())
        for (const char* same : {"name", "data_files", "ds_type", "sample_by", "delimiter"})
          if (entry.contains(same)) one.set(same, entry.at(same));
      held_out.push_back(std::move(one));
    }
    s.derive("eval_dataset", std::move(held_out), "dataset, by dataset_test_split");
  }
  for (const auto& [key, split] :
       {std::pair("dataset", "dataset_train_split"), {"eval_dataset", "dataset_test_split"}})
    if (!is_empty_list(s, key) && (s.has("dataset_config") || s.has(split)))
      s.derive(key, with_defaults(s.value(key), s, split), s.source(key));
  const bool weighted = [&] {
    if (train.is_null()) return false;
    for (const Json& entry : train.as_array())
      if (entry.is_object() && entry.contains("weight")) return true;
    return false;
  }();
  if (!s.has("mix_strategy"))
    s.derive("mix_strategy", weighted ? "interleave_under" : "concat",
             weighted ? "default with a weight" : "default");
  if (weighted && s.text("mix_strategy") == "concat")
    conflict(s, "mix_strategy", "dataset", "concat takes all rows of each dataset; remove the weights");
}

void resolve_recompute(Settings& s) {
  const bool has_checkpointing = s.has("gradient_checkpointing");
  const bool checkpointing = has_checkpointing && s.flag("gradient_checkpointing");
  if (!s.has("recompute")) {
    const bool offloading = !has_checkpointing && s.flag("activation_offloading");
    const char* policy = checkpointing || offloading ? "blocks" : has_checkpointing ? "cheap" : "auto";
    s.derive("recompute", policy,
             has_checkpointing ? "as gradient_checkpointing says"
             : offloading      ? "default with activation_offloading"
                               : "default");
  }
  if (has_checkpointing && checkpointing != (s.text("recompute") == "blocks"))
    conflict(s, "gradient_checkpointing", "recompute", "true means blocks, false another; keep one");
}

void resolve_evaluation(Settings& s) {
  const bool has_data = !is_empty_list(s, "eval_dataset");
  if (!s.has("eval_strategy")) {
    const char* strategy = s.has("eval_steps") ? "steps" : has_data ? "epoch" : "no";
    s.derive("eval_strategy", strategy,
             s.has("eval_steps") ? "default with eval_steps"
             : has_data          ? "default with eval_dataset"
                                 : "default");
  }
  const std::string strategy = s.text("eval_strategy");
  if (strategy != "no" && !has_data)
    fail_usage("{}: eval_strategy is {} but eval_dataset is missing", s.source("eval_strategy"), strategy);
  if (strategy != "steps" && s.has("eval_steps"))
    conflict(s, "eval_steps", "eval_strategy", "eval_steps needs eval_strategy: steps");
  if (strategy == "steps" && !s.has("eval_steps"))
    s.derive("eval_steps", s.integer("logging_steps"), "default: logging_steps");
  if (s.text("save_strategy") != "steps" && s.changed("save_steps"))
    conflict(s, "save_steps", "save_strategy", "save_steps needs save_strategy: steps");
}

void check_masks(const Settings& s) {
  if (s.text("instruction_part").empty() != s.text("response_part").empty())
    fail_usage("{}: {} is missing: instruction_part and response_part belong together",
               s.source(s.text("response_part").empty() ? "instruction_part" : "response_part"),
               s.text("response_part").empty() ? "response_part" : "instruction_part");
  if (s.text("packing_strategy") != "bfd" && !s.flag("packing"))
    conflict(s, "packing_strategy", "packing", "it says how rows are packed; set packing: true");
  if (s.integer("packing_window") > 0 && s.text("packing_strategy") == "wrapped")
    conflict(s, "packing_window", "packing_strategy", "wrapped lays documents end to end without a window");
  if (s.flag("packing") && s.text("packing_strategy") != "bfd" && s.changed("truncation_mode"))
    conflict(s, "truncation_mode", "packing_strategy", "this strategy cuts nothing off");
}

std::vector<std::string> notes_on(const Settings& s) {
  std::vector<std::string> notes;
  if (s.integer("max_steps") > 0 && s.changed("num_train_epochs"))
    notes.push_back("max_steps decides how long to train; num_train_epochs is not used");
  if (!s.flag("padding_free"))
    notes.push_back("padding_free: false changes nothing: padding is never computed, with equal results");
  if (!s.flag("use_peft") && s.given("merge") && s.flag("merge"))
    notes.push_back("merge changes nothing without an adapter: the trained checkpoint is written");
  if (s.flag("activation_offloading") && (s.text("recompute") == "none" || s.text("recompute") == "cheap"))
    notes.push_back("activation_offloading moves the layers' inputs alone; with recompute: " +
                    s.text("recompute") + " that is a small part of what is kept");
  if (s.text("optim") == "adamw_bf16" && !s.flag("stochastic_rounding") && s.number("adam_beta2") > 0.99)
    notes.push_back(
        "optim: adamw_bf16 rounds to nearest, and a second moment in bf16 barely changes with this "
        "adam_beta2; "
        "stochastic_rounding: true mends it");
  return notes;
}

}  // namespace

TrainConfig partial_config(const Settings& settings) {
  return to_struct(settings);
}

ResolvedTrain resolve_train(const Settings& settings, bool needs_dataset) {
  Settings s = settings;
  check_model(s, needs_dataset);
  if (!s.has("use_peft")) {
    const bool init = !empty_text(s, "init");
    s.derive("use_peft", !init, init ? "default with init" : "default");
  }
  if (!s.has("learning_rate")) {
    const bool lora = s.flag("use_peft");
    s.derive("learning_rate", lora ? 2e-4 : 2e-5, lora ? "default with LoRA" : "default without LoRA");
  }
  if (!s.has("data_seed")) s.derive("data_seed", s.integer("seed"), "default: seed");
  resolve_datasets(s);
  check_schedule(s);
  check_masks(s);
  if (s.flag("stochastic_rounding") && s.text("optim") == "adamw_torch")
    conflict(s, "stochastic_rounding", "optim",
             "adamw_torch updates f32 weights; take adamw_8bit or adamw_bf16");
  check_adapter(s);
  check_vocabulary(s);
  resolve_recompute(s);
  resolve_evaluation(s);

  ResolvedTrain resolved{to_struct(s), s, notes_on(s)};
  for (DatasetSource& source : resolved.config.eval_dataset) source.held_out = true;
  if (resolved.config.resume_from_checkpoint == "false") resolved.config.resume_from_checkpoint.clear();
  return resolved;
}

}  // namespace serval
