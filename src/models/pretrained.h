// A model on disk and perhaps an adapter: what the verbs open before they build programs.
//
//   Pretrained model = Pretrained::open({.model = "Qwen/Qwen3-0.6B", .adapter = "out"});
//   NetworkOptions options = model.network_options();
//   ... build programs, allocate states ...
//   model.load_weights(table, states);
//   model.load_adapter_weights(table, states);
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "formats/checkpoint.h"
#include "formats/peft.h"
#include "models/decoder_config.h"
#include "models/embedding_rows.h"
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
  // Where the embeddings and the head are not those of the checkpoint, whoever trains or not: rows were added
  // or set. An adapter must bring them then.
  bool changes_embeddings() const { return rows_.has_value(); }

  // From now on the model has these rows, in config() and config_json() too. To be called before programs are
  // built.
  void set_embedding_rows(EmbeddingRows rows);
  // "eos_token_id" and the like in config_json().
  void set_token_id(const std::string& key, int64_t id);

  // Frozen weights with the adapter, if there is one.
  NetworkOptions network_options() const;
  DType stored_dtype() const { return stored_; }  // of the checkpoint; what a merged one is written in
  // `seed` is used for random weights alone.
  void load_weights(const ParameterTable& table, StateStore& states, uint64_t seed = 0) const;
  // Nothing where there is no adapter. A tensor of the file that no module takes is an error. Modules that
  // the adapter saves whole (modules_to_save, embeddings) come with load_weights().
  void load_adapter_weights(const ParameterTable& table, StateStore& states) const;

 private:
  void take_saved_modules(const std::string& where);

  std::string directory_, adapter_directory_;
  Json config_json_;
  DecoderConfig config_;
  DType compute_ = DType::f32, stored_ = DType::f32;
  std::optional<Checkpoint> checkpoint_;
  std::optional<AdapterConfig> adapter_;
  std::shared_ptr<const AdapterFile> adapter_file_;
  std::optional<EmbeddingRows> rows_;
  bool head_from_embeddings_ = false;  // the checkpoint's head is tied, the model's is not
};

// The names of the embeddings and of the head, if that is a matrix of its own.
std::vector<std::string> embedding_matrices(const DecoderConfig& config);
constexpr const char* kEmbeddings = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

// As NetworkOptions::adapter wants it.
std::function<std::optional<ModuleAdapter>(const std::string&)> adapter_matcher(const AdapterConfig& config);

}  // namespace serval
