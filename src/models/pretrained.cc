#include "models/pretrained.h"

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
  }
  return p;
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
  load_parameters(table, Role::weight, CheckpointSource(*checkpoint_), states);
  warn_of_unused(table, *checkpoint_);
}

void Pretrained::load_adapter_weights(const ParameterTable& table, StateStore& states) const {
  if (!adapter_) return;
  const AdapterFile file(adapter_directory_);
  load_parameters(table, Role::adapter, AdapterSource(file), states);
  std::set<std::string> used;
  for (const Parameter& parameter : table.all())
    if (parameter.role == Role::adapter)
      for (const ParameterSlice& slice : parameter.slices) used.insert(slice.name);
  for (const auto& [name, entry] : file.tensors())
    if (!used.contains(name))
      fail("{}: the tensor '{}' belongs to a module that this model or adapter_config.json does not have",
           file.file().path(), entry->name);
}

}  // namespace serval
