#include "models/pretrained.h"

#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "nn/weights.h"

namespace serval {
namespace {

class CheckpointSource final : public TensorSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  std::optional<Shape> shape(const std::string& name) const override {
    const SafetensorsEntry* entry = checkpoint_.find(name);
    if (entry == nullptr) return std::nullopt;
    return shape_of(*entry, checkpoint_.file_of(name));
  }
  void read(const std::string& name, void* target, DType dtype) const override {
    checkpoint_.read(name, target, dtype);
  }
  bool read_part(const std::string& name, int64_t first, int64_t count, void* target,
                 DType dtype) const override {
    checkpoint_.read(name, first, count, target, dtype);
    return true;
  }
  std::string where() const override { return checkpoint_.directory(); }

 private:
  const Checkpoint& checkpoint_;
};

// A checkpoint whose tied head is read as a matrix of its own.
class UntiedSource final : public TensorSource {
 public:
  explicit UntiedSource(const TensorSource& tied) : tied_(tied) {}
  std::optional<Shape> shape(const std::string& name) const override { return tied_.shape(alias(name)); }
  void read(const std::string& name, void* target, DType dtype) const override {
    tied_.read(alias(name), target, dtype);
  }
  bool read_part(const std::string& name, int64_t first, int64_t count, void* target,
                 DType dtype) const override {
    return tied_.read_part(alias(name), first, count, target, dtype);
  }
  std::string where() const override { return tied_.where(); }

 private:
  static std::string alias(const std::string& name) { return name == kHead ? kEmbeddings : name; }
  const TensorSource& tied_;
};

// A base with the modules that an adapter saves whole in the place of its own.
class SavedModulesSource final : public TensorSource {
 public:
  SavedModulesSource(const TensorSource& base, const AdapterFile& adapter) : base_(base), adapter_(adapter) {}
  std::optional<Shape> shape(const std::string& name) const override {
    const SafetensorsEntry* entry = find(name);
    return entry == nullptr ? base_.shape(name) : shape_of(*entry, adapter_.file().path());
  }
  void read(const std::string& name, void* target, DType dtype) const override {
    const SafetensorsEntry* entry = find(name);
    entry == nullptr ? base_.read(name, target, dtype) : adapter_.file().read(*entry, target, dtype);
  }
  bool read_part(const std::string& name, int64_t first, int64_t count, void* target,
                 DType dtype) const override {
    const SafetensorsEntry* entry = find(name);
    if (entry == nullptr) return base_.read_part(name, first, count, target, dtype);
    adapter_.file().read_elements(*entry, first, count, target, dtype);
    return true;
  }
  std::string where() const override { return base_.where(); }

 private:
  const SafetensorsEntry* find(const std::string& name) const {
    const auto it = adapter_.saved().find(name);
    return it == adapter_.saved().end() ? nullptr : it->second;
  }
  const TensorSource& base_;
  const AdapterFile& adapter_;
};

class AdapterSource final : public TensorSource {
 public:
  explicit AdapterSource(const AdapterFile& adapter) : adapter_(adapter) {}
  std::optional<Shape> shape(const std::string& name) const override {
    const auto it = adapter_.tensors().find(name);
    if (it == adapter_.tensors().end()) return std::nullopt;
    return shape_of(*it->second, where());
  }
  void read(const std::string& name, void* target, DType dtype) const override {
    adapter_.file().read(*adapter_.tensors().at(name), target, dtype);
  }
  std::string where() const override { return adapter_.file().path(); }

 private:
  const AdapterFile& adapter_;
};

// The rows of trainable_token_indices, by token.
std::map<int64_t, std::vector<float>> token_rows(const AdapterConfig& config, const AdapterFile& file) {
  const std::string& where = file.file().path();
  const Shape shape = shape_of(*file.token_rows(), where);
  if (shape.rank() != 2 || shape[0] != static_cast<int64_t>(config.trained_tokens.size()))
    fail("{}: trainable_tokens_delta is {}, but trainable_token_indices names {} tokens", where,
         to_string(shape), config.trained_tokens.size());
  std::map<int64_t, std::vector<float>> rows;
  for (size_t i = 0; i < config.trained_tokens.size(); ++i) {
    std::vector<float>& row = rows[config.trained_tokens[i]];
    row.resize(static_cast<size_t>(shape[1]));
    file.file().read_elements(*file.token_rows(), static_cast<int64_t>(i) * shape[1], shape[1], row.data(),
                              DType::f32);
  }
  return rows;
}

// Tensors of a checkpoint that no parameter reads: a sign of another architecture, unless they are buffers.
void warn_of_unused(const ParameterTable& table, const Checkpoint& checkpoint) {
  std::set<std::string> used;
  for (const Parameter& parameter : table.all())
    for (const ParameterSlice& slice : parameter.slices) used.insert(slice.name);
  for (const SafetensorsEntry* entry : checkpoint.entries()) {
    const bool buffer = entry->name.ends_with(".inv_freq") || entry->name.ends_with(".masked_bias");
    if (!used.contains(entry->name) && !buffer && entry->name != "lm_head.weight")
      warn("{}: the tensor '{}' is not used by this architecture", checkpoint.file_of(entry->name),
           entry->name);
  }
}

// Of the checkpoint's tensors, else as config.json says.
DType stored_type(const DecoderConfig& config, const std::optional<Checkpoint>& checkpoint) {
  if (checkpoint)
    if (const auto* entry = checkpoint->find("model.embed_tokens.weight"); entry != nullptr && entry->dtype)
      return *entry->dtype;
  return config.dtype.value_or(DType::f32);
}

DType compute_type(const std::string& wanted, DType stored) {
  if (wanted != "auto") {
    const auto dtype = dtype_from_name(wanted);
    if (!dtype || (*dtype != DType::bf16 && *dtype != DType::f32))
      fail_usage("dtype is '{}', expected auto, bfloat16 or float32", wanted);
    return *dtype;
  }
  return stored == DType::bf16 ? DType::bf16 : DType::f32;
}

}  // namespace

std::vector<std::string> embedding_matrices(const DecoderConfig& config) {
  if (config.tie_word_embeddings) return {kEmbeddings};
  return {kEmbeddings, kHead};
}

std::function<std::optional<ModuleAdapter>(const std::string&)> adapter_matcher(const AdapterConfig& config) {
  return [config](const std::string& module) -> std::optional<ModuleAdapter> {
    const auto shape = config.match(module);
    if (!shape) return std::nullopt;
    return ModuleAdapter{.rank = shape->rank, .scale = shape->scale, .dropout = config.dropout};
  };
}

Pretrained Pretrained::open(const PretrainedOptions& options) {
  Pretrained p;
  std::string config_path;
  if (!options.init.empty()) {
    config_path = options.init;
    if (directory_exists(config_path)) config_path = join_path(config_path, "config.json");
    const size_t slash = config_path.rfind('/');
    p.directory_ = slash == std::string::npos ? "." : config_path.substr(0, slash);
  } else {
    p.directory_ = resolve_model(options.model);
    p.checkpoint_ = Checkpoint::open(p.directory_);
    config_path = join_path(p.directory_, "config.json");
  }
  if (!file_exists(config_path))
    fail("{}: missing; expected the config.json of a Hugging Face model", config_path);
  p.config_json_ = Json::parse(read_file(config_path, 16 << 20), config_path);
  p.config_ = read_decoder_config(p.config_json_, config_path, options.ignored_config_keys);
  p.stored_ = stored_type(p.config_, p.checkpoint_);
  p.compute_ = compute_type(options.dtype, p.stored_);
  if (!options.adapter.empty()) {
    p.adapter_directory_ = resolve_model(options.adapter);
    p.adapter_ = AdapterConfig::read(p.adapter_directory_);
    for (const auto& key : p.adapter_->ignored)
      warn("{}: the key '{}' is not known and has no effect",
           join_path(p.adapter_directory_, "adapter_config.json"), key);
    p.adapter_file_ = std::make_shared<AdapterFile>(p.adapter_directory_);
    p.take_saved_modules(p.adapter_file_->file().path());
    if (!p.adapter_->trained_tokens.empty() && p.adapter_file_->token_rows() == nullptr)
      fail("{}: adapter_config.json names trainable_token_indices, but their rows are missing",
           p.adapter_file_->file().path());
  }
  return p;
}

// The adapter's own embeddings say how many rows there are. Where they are not tied to its head as the base's
// are, the model has two matrices: PEFT makes a copy of each module that it saves.
void Pretrained::take_saved_modules(const std::string& where) {
  const auto& saved = adapter_file_->saved();
  const auto embeddings = saved.find(kEmbeddings), head = saved.find(kHead);
  const auto end = saved.end();
  if (embeddings == end && head == end) return;
  const auto rows_of = [&](auto it) { return shape_of(*it->second, where).rows(); };
  const int64_t rows = rows_of(embeddings != end ? embeddings : head);
  if (embeddings != end && head != end && rows_of(head) != rows)
    fail("{}: embed_tokens has {} rows and lm_head {}; they must agree", where, rows, rows_of(head));
  config_.vocab_size = rows;
  config_json_.set("vocab_size", Json(rows));
  const bool copies = adapter_->saves("model.embed_tokens") || adapter_->saves("lm_head");
  if (!config_.tie_word_embeddings || !copies || adapter_->ensure_weight_tying) return;
  const auto values = [&](auto it) {
    std::vector<float> list(static_cast<size_t>(shape_of(*it->second, where).elements()));
    adapter_file_->file().read(*it->second, list.data(), DType::f32);
    return list;
  };
  if (embeddings != end && head != end &&
      shape_of(*embeddings->second, where) == shape_of(*head->second, where) &&
      values(embeddings) == values(head))
    return;
  config_.tie_word_embeddings = false;
  config_json_.set("tie_word_embeddings", Json(false));
  head_from_embeddings_ = checkpoint_->find(kHead) == nullptr;
}

void Pretrained::set_embedding_rows(EmbeddingRows rows) {
  config_.vocab_size = rows.rows;
  config_json_.set("vocab_size", Json(rows.rows));
  rows_ = std::move(rows);
}

void Pretrained::set_token_id(const std::string& key, int64_t id) {
  config_json_.set(key, Json(id));
}

NetworkOptions Pretrained::network_options() const {
  NetworkOptions options;
  options.compute = compute_;
  options.train_adapters = false;
  if (adapter_) options.adapter = adapter_matcher(*adapter_);
  return options;
}

void Pretrained::load_weights(const ParameterTable& table, StateStore& states, uint64_t seed) const {
  if (!checkpoint_) {
    initialize_parameters(table, Role::weight, config_.initializer_range, seed, states);
    return;
  }
  const CheckpointSource base(*checkpoint_);
  const UntiedSource untied(base);
  const TensorSource* source = &base;
  if (head_from_embeddings_) source = &untied;
  std::optional<SavedModulesSource> saved;
  if (adapter_file_ != nullptr && !adapter_file_->saved().empty())
    source = &saved.emplace(*source, *adapter_file_);
  std::optional<GrownSource> replaced;
  if (adapter_file_ != nullptr && adapter_file_->token_rows() != nullptr)
    source = &replaced.emplace(*source, kEmbeddings, token_rows(*adapter_, *adapter_file_));
  std::optional<GrownSource> grown;
  if (rows_) {
    source = &grown.emplace(*source, *rows_, embedding_matrices(config_));
    if (rows_->repair_untrained)
      log_info("fix_untrained_tokens: {} rows of zeros begin as the mean of the trained ones",
               grown->repaired());
  }
  load_parameters(table, Role::weight, *source, states);
  warn_of_unused(table, *checkpoint_);
}

void Pretrained::load_adapter_weights(const ParameterTable& table, StateStore& states) const {
  if (!adapter_) return;
  const AdapterFile& file = *adapter_file_;
  load_parameters(table, Role::adapter, AdapterSource(file), states);
  std::set<std::string> used, weights;
  for (const Parameter& parameter : table.all())
    for (const ParameterSlice& slice : parameter.slices)
      (parameter.role == Role::adapter ? used : weights).insert(slice.name);
  // A tied head is saved beside the embeddings that it is.
  if (config_.tie_word_embeddings) weights.insert(kHead);
  const auto check = [&](const auto& tensors, const std::set<std::string>& known) {
    for (const auto& [name, entry] : tensors)
      if (!known.contains(name))
        fail("{}: the tensor '{}' belongs to a module that this model or adapter_config.json does not have",
             file.file().path(), entry->name);
  };
  check(file.tensors(), used);
  check(file.saved(), weights);
}

}  // namespace serval
