// A model on disk and perhaps an adapter: what the verbs open before they build programs.
//
//   Pretrained model = Pretrained::open({.model = "Qwen/Qwen3-0.6B", .adapter = "out"});
//   NetworkOptions options = model.network_options();
//   ... build programs, allocate states ...
//   model.load_weights(table, states);
//   model.load_adapter_weights(table, states);
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "formats/checkpoint.h"
#include "formats/peft.h"
#include "models/decoder_config.h"
#include "nn/network.h"
#include "run/state_store.h"

namespace serval {

struct PretrainedOptions {
  std::string model;           // directory or org/name
  std::string init;            // instead: a config.json, for random weights
  std::string adapter;         // a PEFT directory, or ""
  std::string dtype = "auto";  // auto: the checkpoint's (f16 is computed in f32)
  std::vector<std::string> ignored_config_keys;
};

class Pretrained {
 public:
  static Pretrained open(const PretrainedOptions& options);

  const std::string& directory() const { return directory_; }  // holds config.json, and tokenizer files
  const Json& config_json() const { return config_json_; }
  const DecoderConfig& config() const { return config_; }
  DType compute() const { return compute_; }
  bool random() const { return !checkpoint_.has_value(); }
  const std::optional<AdapterConfig>& adapter() const { return adapter_; }
  const std::optional<Checkpoint>& checkpoint() const { return checkpoint_; }

  // Frozen weights with the adapter, if there is one.
  NetworkOptions network_options() const;
  DType stored_dtype() const { return stored_; }  // of the checkpoint; what a merged one is written in
  // `seed` is used for random weights alone.
  void load_weights(const ParameterTable& table, StateStore& states, uint64_t seed = 0) const;
  // Nothing where there is no adapter. A tensor of the file that no module takes is an error.
  void load_adapter_weights(const ParameterTable& table, StateStore& states) const;

 private:
  std::string directory_, adapter_directory_;
  Json config_json_;
  DecoderConfig config_;
  DType compute_ = DType::f32, stored_ = DType::f32;
  std::optional<Checkpoint> checkpoint_;
  std::optional<AdapterConfig> adapter_;
};

// As NetworkOptions::adapter wants it.
std::function<std::optional<ModuleAdapter>(const std::string&)> adapter_matcher(const AdapterConfig& config);

}  // namespace serval
