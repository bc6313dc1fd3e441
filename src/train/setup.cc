#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/pattern.h"
#include "base/text.h"
#include "data/preview.h"
#include "run/state_store.h"
#include "text/tokenizer_files.h"
#include "train/checkpoints.h"
#include "train/read_examples.h"
#include "train/text_tools.h"
#include "train/training_run.h"

namespace serval {
namespace {

AdapterConfig adapter_from(const TrainConfig& c, const std::string& base_model) {
  AdapterConfig a;
  a.base_model = base_model;
  a.r = c.lora_r;
  a.alpha = static_cast<double>(c.lora_alpha);
  a.dropout = c.lora_dropout;
  a.use_rslora = c.use_rslora;
  const auto is_regex = [](const std::vector<std::string>& names) {
    return names.size() == 1 && names[0].find_first_of("\\^$*+?()[]{}|") != std::string::npos;
  };
  a.modules_to_save = c.lora_modules_to_save;
  a.target_modules = c.lora_target_modules;
  a.targets_are_regex = is_regex(c.lora_target_modules);
  a.exclude_modules = c.lora_exclude_modules;
  a.excludes_are_regex = is_regex(c.lora_exclude_modules);
  a.layers_to_transform = c.lora_layers_to_transform;
  for (const auto& [name, rank] : c.lora_rank_pattern)
    a.rank_pattern.emplace_back(name, static_cast<double>(rank));
  for (const auto& [name, alpha] : c.lora_alpha_pattern)
    a.alpha_pattern.emplace_back(name, static_cast<double>(alpha));
  return a;
}

// Which base parameters train: the patterns match from the start of the name, as in Axolotl.
std::function<bool(const std::string&)> trained_matcher(const TrainConfig& c,
                                                        const std::optional<AdapterConfig>& adapter,
                                                        bool tied) {
  auto compile = [](const std::vector<std::string>& patterns, const char* key) {
    auto list = std::make_shared<std::vector<Regex>>();
    for (const auto& pattern : patterns) list->emplace_back(pattern, key);
    return list;
  };
  const auto trainable = compile(c.trainable, "trainable"), frozen = compile(c.frozen, "frozen");
  const bool all = !c.use_peft && c.trainable.empty();
  const auto any = [](const std::vector<Regex>& list, const std::string& name) {
    return std::any_of(list.begin(), list.end(),
                       [&](const Regex& regex) { return regex.matches_start(name); });
  };
  // A module that the adapter saves trains whole; a tied head is the embeddings.
  const auto saved = [adapter, tied](const std::string& name) {
    if (!adapter || adapter->modules_to_save.empty()) return false;
    return adapter->saves(name.substr(0, name.rfind('.'))) ||
           (tied && name == kEmbeddings && adapter->saves("lm_head"));
  };
  return [=](const std::string& name) {
    return (all || any(*trainable, name) || saved(name)) && !any(*frozen, name);
  };
}

// The rows that tokens ask of the embeddings, and whether anything asks.
void resize_embeddings(TrainingSetup& setup, const TextTools& tools) {
  const TrainConfig& c = setup.config;
  const int64_t had = setup.model.config().vocab_size, tokens = tools.tokenizer.vocab_size();
  EmbeddingRows rows{.rows = had,
                     .known = std::min(tools.old_vocab_size, had),
                     .fresh = tools.new_ids,
                     .spellings = tools.spellings,
                     .spelling_share = c.new_token_init == "interpolation" ? c.new_token_interpolation : 0,
                     .repair_untrained = c.fix_untrained_tokens};
  if (c.resize_vocab || !rows.fresh.empty()) rows.rows = std::max(had, tokens);
  const int64_t multiple = c.resize_vocab_to_multiple_of;
  rows.rows = (rows.rows + multiple - 1) / multiple * multiple;
  std::erase_if(rows.fresh, [&](int32_t id) { return id >= rows.rows; });
  if (rows.rows == had && rows.fresh.empty() && !rows.repair_untrained) return;
  std::vector<std::string> names, said;
  for (const int32_t id : rows.fresh) names.push_back(in_quotes(tools.tokenizer.id_to_token(id)));
  if (names.size() > 8) names.resize(8), names.push_back("...");
  if (!names.empty())
    said.push_back(fmt::format("{} new {}: {}", rows.fresh.size(),
                               rows.fresh.size() == 1 ? "token" : "tokens", join(names, ", ")));
  if (rows.rows != had)
    said.push_back(fmt::format("embeddings and head grow from {} to {} rows", had, rows.rows));
  if (!rows.fresh.empty() || rows.rows != had)
    said.push_back(rows.spelling_share > 0
                       ? "their rows begin as the mean of the trained ones and of what spelled them"
                       : "their rows begin as the mean of the trained ones");
  if (rows.repair_untrained) said.push_back("rows of zeros begin as the mean too");
  setup.vocabulary = join(said, "; ");
  setup.model.set_embedding_rows(std::move(rows));
}

// The tokenizer as the configuration wants it, and the model with rows for its tokens.
TextTools open_text(TrainingSetup& setup) {
  const TrainConfig& c = setup.config;
  TrainingData& data = setup.data;
  data.tokenizer_path =
      tokenizer_path(c.tokenizer_name_or_path, setup.model.directory(), c.adapter_name_or_path);
  TextTools tools = open_text_tools({.tokenizer = data.tokenizer_path,
                                     .chat_template = c.chat_template,
                                     .adapter = c.adapter_name_or_path,
                                     .changes = tokenizer_changes(c)});
  const bool beside_adapter =
      c.tokenizer_name_or_path.empty() && data.tokenizer_path != setup.model.directory();
  data.ships_tokenizer = needs_writing(tools.tokenizer) || beside_adapter;
  for (const NamedToken& token : tokenizer_changes(c).name)
    if (const auto id = tools.tokenizer.token_to_id(token.content)) {
      data.token_ids.emplace_back(token.role + "_id", *id);
      if (token.role != "unk_token") setup.model.set_token_id(token.role + "_id", *id);
    }
  std::erase_if(data.token_ids, [](const auto& entry) { return entry.first == "unk_token_id"; });
  resize_embeddings(setup, tools);
  return tools;
}

bool changes_vocabulary(const TrainConfig& c) {
  return !tokenizer_changes(c).empty() || c.resize_vocab || c.resize_vocab_to_multiple_of > 1 ||
         c.fix_untrained_tokens;
}

// What lies in the adapter beside its own matrices: whatever of the base trains too, and embeddings that are
// not the base's.
SavedWeights saved_weights(const TrainingSetup& setup) {
  SavedWeights saved;
  if (!setup.adapter) return saved;
  saved.stored = setup.model.stored_dtype();
  const std::vector<std::string> embeddings = embedding_matrices(setup.model.config());
  const bool tied = setup.model.config().tie_word_embeddings;
  for (const Parameter& parameter : setup.plan.parameters.all())
    for (const ParameterSlice& slice : parameter.slices) {
      if (parameter.role != Role::weight) continue;
      const std::string module = slice.name.substr(0, slice.name.rfind('.'));
      const bool embedding = std::find(embeddings.begin(), embeddings.end(), slice.name) != embeddings.end();
      const bool named =
          setup.adapter->saves(module) || (embedding && tied && setup.adapter->saves("lm_head"));
      if (named || slice.trained || (embedding && setup.model.changes_embeddings()))
        saved.names.insert(slice.name);
      saved.tied_head = saved.tied_head || (named && embedding && tied);
    }
  return saved;
}

// Names that lie in no module of the network, and tokens that nothing learns.
void check_saved_modules(const TrainingSetup& setup) {
  if (!setup.adapter) return;
  std::set<std::string> modules = {"lm_head"};
  for (const Parameter& parameter : setup.plan.parameters.all())
    for (const ParameterSlice& slice : parameter.slices)
      if (parameter.role == Role::weight) modules.insert(slice.name.substr(0, slice.name.rfind('.')));
  for (const std::string& end : setup.adapter->modules_to_save)
    if (std::none_of(modules.begin(), modules.end(),
                     [&](const std::string& module) { return module.ends_with(end); }))
      fail(
          "lora_modules_to_save: no module's name ends with '{}'; embed_tokens, lm_head and the modules of "
          "the "
          "layers are there",
          end);
  if (setup.model.changes_embeddings() && !setup.adapter->saves("model.embed_tokens"))
    warn(
        "the rows of new or repaired tokens are not trained; lora_modules_to_save: [embed_tokens, lm_head] "
        "trains embeddings and head, and with them these rows");
}

bool embedding_rate_is_idle(const TrainingSetup& setup) {
  if (!setup.plan.options.update.embedding_rate) return false;
  for (const Parameter& parameter : setup.plan.parameters.all())
    for (const ParameterSlice& slice : parameter.slices)
      if (slice.trained && is_embedding(slice.name)) return false;
  return true;
}

void open_data(TrainingSetup& setup, TextTools tools) {
  const TrainConfig& c = setup.config;
  TrainingData& data = setup.data;
  const Checkpoint* checkpoint = setup.model.checkpoint() ? &*setup.model.checkpoint() : nullptr;
  ModelTokens model = model_tokens(tools, setup.model.directory(), checkpoint);
  model.embedding_rows = setup.model.config().vocab_size;
  if (c.fix_untrained_tokens) model.untrained_ids.clear();
  for (const auto& [key, id] : data.token_ids)
    if (key == "eos_token_id") model.eos_ids.insert(model.eos_ids.begin(), id);
  report_findings(tools.tokenizer, model);
  DatasetReadOptions options = read_options_of(c);
  options.fingerprint = tools.fingerprint;
  data.tokenizer = std::move(tools.tokenizer);
  data.chat_template = std::move(tools.chat_template);
  data.own_template = tools.own_template;
  const auto read = [&](const std::vector<DatasetSource>& sources, const char* what) {
    if (std::string_view(what) != "dataset") options.mix_strategy = "concat";
    return read_examples(sources, options, *data.tokenizer,
                         data.chat_template ? &*data.chat_template : nullptr, setup.model.config().vocab_size,
                         what);
  };
  Examples train = read(c.dataset, "dataset");
  data.cache_directory = options.cache.directory();
  if (c.preview > 0) log_info("{}", preview_examples(train, *data.tokenizer, c.preview, use_colour()));
  options.examples.mask.prompt_loss_weight = 0;
  if (!c.eval_dataset.empty()) data.eval = read(c.eval_dataset, "eval_dataset");
  const bool wrapped = c.packing_strategy == "wrapped";
  data.train = std::make_unique<BatchStream>(std::move(train),
                                             BatchOptions{.batch_size = c.per_device_train_batch_size,
                                                          .accumulation = c.gradient_accumulation_steps,
                                                          .packing = c.packing && !wrapped,
                                                          .max_length = c.max_length,
                                                          .packing_window = c.packing_window,
                                                          .seed = static_cast<uint64_t>(c.data_seed),
                                                          .directory = data.cache_directory});
  if (c.packing)
    log_info("packing: {} rows of at most {} tokens, {:.1f} % filled", data.train->num_rows(), c.max_length,
             100.0 * static_cast<double>(data.train->examples().num_tokens()) /
                 (static_cast<double>(data.train->num_rows()) * static_cast<double>(c.max_length)));
}

BatchCapacity bound_of(const TrainConfig& c, int64_t batch_size) {
  const int64_t tokens = batch_size * c.max_length;
  // A packed row may hold as many documents as it has tokens; an arena barely depends on it.
  return {tokens, c.packing ? tokens : batch_size, tokens, c.max_length};
}

// Every name that the user listed must be a linear module of the network: one that is silently passed over
// would be a model trained otherwise than asked for.
void check_adapter_targets(const TrainingSetup& setup) {
  if (!setup.adapter) return;
  std::set<std::string> modules, adapted;
  for (const Parameter& parameter : setup.plan.parameters.all()) {
    for (const ParameterSlice& slice : parameter.slices) {
      if (slice.name.ends_with("_proj.weight")) modules.insert(slice.name.substr(0, slice.name.size() - 7));
      if (slice.name.ends_with(".lora_A.weight"))
        adapted.insert(slice.name.substr(0, slice.name.size() - 14));
    }
  }
  const auto ends = [](const std::string& module, const std::string& name) {
    return module == name || module.ends_with("." + name);
  };
  std::vector<std::string> unknown;
  const AdapterConfig& adapter = *setup.adapter;
  const bool listed = !adapter.targets_are_regex &&
                      !(adapter.target_modules.size() == 1 && adapter.target_modules[0] == "all-linear");
  if (listed)
    for (const std::string& name : adapter.target_modules)
      if (std::none_of(modules.begin(), modules.end(),
                       [&](const std::string& module) { return ends(module, name); }))
        unknown.push_back(name);
  if (unknown.empty() && !adapted.empty()) return;
  std::set<std::string> last_parts;
  for (const std::string& module : modules) last_parts.insert(module.substr(module.rfind('.') + 1));
  fail("lora_target_modules: '{}' {}; an adapter can be put on the linear modules of the layers: {}",
       join(unknown.empty() ? adapter.target_modules : unknown, "', '"),
       unknown.empty() ? "leaves no module to adapt" : "is no such module",
       join(std::vector<std::string>(last_parts.begin(), last_parts.end()), ", "));
}

// Whether a checkpoint is saved before the last step, where one would be written beside the training.
bool saves_on_the_way(const TrainingSetup& setup) {
  const TrainConfig& c = setup.config;
  if (c.save_strategy == "no") return false;
  const int64_t every = c.save_strategy == "epoch" ? setup.steps_per_epoch : c.save_steps;
  return every > 0 && (setup.total_steps == 0 || every < setup.total_steps);
}

// Huge states are written while training waits: a copy of them would take memory that others need.
void choose_checkpoint_copy(TrainingSetup& setup) {
  if (!saves_on_the_way(setup)) return;
  StateStore states(*setup.device);
  states.declare(setup.plan.train);
  states.declare(setup.plan.update);
  StateStore copy(*setup.device);
  copy.declare(states, checkpoint_states(setup.plan.parameters, states,
                                         setup.adapter ? Role::adapter : Role::weight, setup.saved.names));
  constexpr int64_t kShareOfHost = 4, kShareOfRun = 10;
  const bool on_gpu = setup.device->kind() == DeviceKind::cuda;
  const auto fits_host = [&] {
    const int64_t total = memory_plan(setup).total, limit = setup.config.memory_limit.value_or(INT64_MAX);
    return copy.bytes() <= std::min(total / kShareOfRun, limit - total);
  };
  const bool fits = on_gpu ? copy.bytes() <= make_cpu_device()->free_memory() / kShareOfHost : fits_host();
  if (fits)
    setup.checkpoint_copy_bytes = copy.bytes();
  else
    log_info("checkpoints are written while training waits: a copy of {} in memory would be too large",
             human_bytes(copy.bytes()));
}

}  // namespace

TrainingSetup prepare_training(const TrainConfig& config, bool with_data, std::shared_ptr<Device> device) {
  if (config.num_threads > 0) set_num_threads(static_cast<int>(config.num_threads));
  TrainingSetup setup;
  setup.config = config;
  setup.device = device != nullptr ? std::move(device) : make_device(config.device);
  PretrainedOptions options{.model = config.model_name_or_path,
                            .init = config.init,
                            .adapter = config.adapter_name_or_path,
                            .dtype = config.dtype,
                            .ignored_config_keys = config.ignore_config_key};
  setup.model = Pretrained::open(options);
  if (setup.device->kind() == DeviceKind::cuda && setup.model.compute() == DType::f64)
    fail_usage("dtype float64 is computed on the CPU alone: pass --device cpu, or another dtype");
  if (config.use_peft) {
    if (setup.model.adapter())
      setup.adapter = setup.model.adapter();
    else
      setup.adapter =
          adapter_from(config, config.model_name_or_path.empty() ? config.init : config.model_name_or_path);
    if (!config.adapter_name_or_path.empty() && config.lora_dropout > 0)
      setup.adapter->dropout = config.lora_dropout;
  }
  if (setup.adapter && !setup.adapter->trained_tokens.empty())
    fail(
        "{}: the adapter trains single rows of the embeddings (trainable_token_indices), which training "
        "cannot "
        "go on with; evaluation and generation read it",
        config.adapter_name_or_path);
  if (config.activation_offloading && setup.device->kind() == DeviceKind::cpu)
    log_info("activation_offloading saves nothing on the CPU: all memory is the host's");
  std::optional<TextTools> tools;
  if (with_data || changes_vocabulary(config)) tools = open_text(setup);
  SessionOptions session;
  session.device = setup.device->kind();
  session.model = setup.model.config();
  session.network = setup.model.network_options();
  session.network.train_adapters = true;
  session.network.deterministic = config.deterministic;
  session.network.own_attention = config.attn_implementation == "own";
  session.network.trained = trained_matcher(config, setup.adapter, setup.model.config().tie_word_embeddings);
  session.network.adapter = setup.adapter ? adapter_matcher(*setup.adapter) : nullptr;
  session.update.adamw = {.beta1 = config.adam_beta1,
                          .beta2 = config.adam_beta2,
                          .eps = config.adam_epsilon,
                          .weight_decay = config.weight_decay};
  session.update.max_grad_norm = config.max_grad_norm;
  session.update.optimizer = optimizer_from_name(config.optim);
  session.update.stochastic_rounding = config.stochastic_rounding;
  session.update.embedding_rate = config.embedding_learning_rate.has_value();
  if (with_data) {
    open_data(setup, std::move(*tools));
    session.train_capacity = setup.data.train->capacity();
    if (setup.data.eval)
      session.eval_capacity =
          EvaluationBatches(*setup.data.eval, config.per_device_eval_batch_size).capacity();
    setup.steps_per_epoch = setup.data.train->steps_per_epoch();
    setup.total_steps = config.max_steps > 0
                            ? config.max_steps
                            : static_cast<int64_t>(std::ceil(config.num_train_epochs *
                                                             static_cast<double>(setup.steps_per_epoch)));
    setup.total_steps = std::max<int64_t>(1, setup.total_steps);
    const int64_t warmup =
        config.warmup_ratio && *config.warmup_ratio > 0
            ? static_cast<int64_t>(std::ceil(*config.warmup_ratio * static_cast<double>(setup.total_steps)))
            : config.warmup_steps;
    setup.schedule = {schedule_from_name(config.lr_scheduler_type), warmup, setup.total_steps};
    if (session.model.max_position_embeddings < config.max_length)
      log_info("max_length {} is longer than the {} positions the model was made for", config.max_length,
               session.model.max_position_embeddings);
  } else {
    session.train_capacity = bound_of(config, config.per_device_train_batch_size);
    if (!config.eval_dataset.empty())
      session.eval_capacity = bound_of(config, config.per_device_eval_batch_size);
  }

  setup.plan = plan_within_memory(setup, std::move(session));
  setup.saved = saved_weights(setup);
  choose_checkpoint_copy(setup);
  check_adapter_targets(setup);
  check_saved_modules(setup);
  if (embedding_rate_is_idle(setup))
    fail_usage(
        "embedding_learning_rate: embeddings and head do not train; lora_modules_to_save: [embed_tokens, "
        "lm_head] trains them");
  if (setup.plan.trained_parameters() == 0)
    fail("nothing is trained: trainable and frozen leave no parameter");
  return setup;
}

}  // namespace serval
