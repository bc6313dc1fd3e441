// What a run leaves behind for other programs: a PEFT adapter, and a Hugging Face checkpoint with the adapter
// merged in (or, after full fine-tuning, of the trained weights).
#pragma once
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "formats/peft.h"
#include "nn/parameters.h"
#include "run/state_store.h"
#include "text/tokenizer.h"

namespace serval {

// adapter_config.json and adapter_model.safetensors into an existing directory: what was trained in f32, and
// the weights of `saved` (by name) whole, in `stored` where they are frozen. A tied head is written too where
// modules_to_save names it or the embeddings, because PEFT then makes a copy of each.
struct SavedWeights {
  std::set<std::string> names;
  bool tied_head = false;
  DType stored = DType::f32;
};
void write_adapter(const std::string& directory, const AdapterConfig& config, const ParameterTable& table,
                   const StateStore& states, const SavedWeights& saved = {});

// chat_template.jinja, and no other template in the directory: what a model was trained with is what it is
// used with.
void write_chat_template(const std::string& directory, const std::string& source);

// The tokenizer's files, where those of its source say less (text/tokenizer_files.h); else nothing.
void write_changed_tokenizer(const std::string& directory, const Tokenizer& tokenizer);

// How much of the adapter rounding to the checkpoint's type loses: |round(W + sBA) - (W + sBA)| / |sBA|, by
// norm.
struct MergeReport {
  double worst = 0;
  std::string worst_module;
  int64_t merged_modules = 0;
};

struct MergedCheckpointOptions {
  Json config_json;       // of the model; its dtype is set to what is written
  std::string tokenizer;  // directory or file: tokenizer and template are copied from here
  const Tokenizer* changed_tokenizer = nullptr;  // written in the place of the files, or beside them
  std::vector<std::pair<std::string, int32_t>> token_ids{};  // "eos_token_id" ... of generation_config.json
  std::string chat_template{};             // Jinja that stands in place of the copied one; "": the copied
  const AdapterConfig* adapter = nullptr;  // nullptr: nothing to merge
  DType dtype = DType::bf16;
};

// Fills `directory`, which exists, with config.json, model.safetensors (or shards) and the files of the
// tokenizer. W + sBA is summed in f32 and rounded once.
MergeReport write_merged_checkpoint(const std::string& directory, const MergedCheckpointOptions& options,
                                    const ParameterTable& table, const StateStore& states);

}  // namespace serval
