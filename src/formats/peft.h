// A PEFT LoRA adapter on disk: adapter_config.json and adapter_model.safetensors, with PEFT's names and
// semantics.
//
//   AdapterConfig config = AdapterConfig::read("adapter");
//   if (auto lora = config.match("model.layers.0.self_attn.q_proj")) use(lora->rank, lora->scale);
//
// What changes the maths and is not supported (DoRA, bias training, ...) is refused by name; unknown keys are
// listed in `ignored` for a warning, as PEFT drops them.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/pattern.h"
#include "formats/safetensors.h"

namespace serval {

struct LoraShape {
  int64_t rank = 0;
  double alpha = 0;
  double scale = 0;  // alpha / rank, or alpha / sqrt(rank) with rsLoRA
};

class AdapterConfig {
 public:
  std::string base_model;
  int64_t r = 8;
  double alpha = 8, dropout = 0;
  bool use_rslora = false;
  // A list of names and suffixes, one regular expression for the whole name, or "all-linear".
  std::vector<std::string> target_modules;
  bool targets_are_regex = false;
  std::vector<std::string> exclude_modules;
  bool excludes_are_regex = false;
  std::vector<int64_t> layers_to_transform;  // empty: all
  std::vector<std::string> layers_pattern;   // regular expressions; empty: the first number in the name
  // The first pattern that the end of a module's name matches gives its rank or alpha.
  std::vector<std::pair<std::string, double>> rank_pattern, alpha_pattern;
  // Ends of names of modules that train in full and are saved whole; the adapter's matrices are not put
  // there.
  std::vector<std::string> modules_to_save;
  // Tokens whose rows of the embeddings are replaced (PEFT's trainable_token_indices).
  std::vector<int64_t> trained_tokens;
  bool ensure_weight_tying = false;  // a tied head stays tied to embeddings that are saved
  std::vector<std::string> ignored;  // keys of the file that were dropped

  static AdapterConfig read(const std::string& directory);
  static AdapterConfig from_json(const Json& json, const std::string& where);
  // A value out of range, a wrong regular expression or keys that contradict each other are UserErrors.
  void check(const std::string& where) const;
  Json to_json() const;  // the keys that every PEFT version reads

  // Whether modules_to_save names the module ("lm_head", "model.layers.0.mlp.down_proj").
  bool saves(const std::string& module) const;

  // Whether PEFT would adapt this linear module of the network (never the output head), and how.
  std::optional<LoraShape> match(const std::string& module) const;

 private:
  bool targets(const std::string& module) const;
  bool in_chosen_layer(const std::string& module) const;
};

// The name of a tensor in adapter_model.safetensors, for "model.layers.0.self_attn.q_proj.lora_A.weight".
std::string peft_name(const std::string& name);

// adapter_model.safetensors, by our names; keys with an adapter's name (lora_A.default.weight) are read too.
// Every module has its A [r, in] and its B [out, r], or stands there whole.
class AdapterFile {
 public:
  explicit AdapterFile(const std::string& directory);
  const std::map<std::string, const SafetensorsEntry*>& tensors() const { return tensors_; }
  // Parameters of the base that are saved whole, by their names there ("lm_head.weight").
  const std::map<std::string, const SafetensorsEntry*>& saved() const { return saved_; }
  // The rows of AdapterConfig::trained_tokens, in their order; nullptr where there are none.
  const SafetensorsEntry* token_rows() const { return token_rows_; }
  const SafetensorsFile& file() const { return file_; }

 private:
  void check_pairs() const;
  SafetensorsFile file_;
  std::map<std::string, const SafetensorsEntry*> tensors_, saved_;
  const SafetensorsEntry* token_rows_ = nullptr;
};

}  // namespace serval
