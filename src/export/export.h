// What a run leaves behind for other programs: a PEFT adapter, and a Hugging Face checkpoint with the adapter
// merged in (or, after full fine-tuning, of the trained weights).
#pragma once
#include <string>

#include "base/json.h"
#include "formats/peft.h"
#include "nn/parameters.h"
#include "run/state_store.h"

namespace serval {

// adapter_config.json and adapter_model.safetensors (f32: the values that were trained) into an existing
// directory.
void write_adapter(const std::string& directory, const AdapterConfig& config, const ParameterTable& table,
                   const StateStore& states);

// chat_template.jinja, and no other template in the directory: what a model was trained with is what it is
// used with.
void write_chat_template(const std::string& directory, const std::string& source);

// How much of the adapter rounding to the checkpoint's type loses: |round(W + sBA) - (W + sBA)| / |sBA|, by
// norm.
struct MergeReport {
  double worst = 0;
  std::string worst_module;
  int64_t merged_modules = 0;
};

struct MergeOptions {
  Json config_json;                        // of the model; its dtype is set to what is written
  std::string tokenizer;                   // directory or file: tokenizer and template are copied from here
  std::string chat_template{};             // Jinja that stands in place of the copied one; "": the copied
  const AdapterConfig* adapter = nullptr;  // nullptr: nothing to merge
  DType dtype = DType::bf16;
};

// Fills `directory`, which exists, with config.json, model.safetensors (or shards) and the files of the
// tokenizer. W + sBA is summed in f32 and rounded once.
MergeReport write_merged_checkpoint(const std::string& directory, const MergeOptions& options,
                                    const ParameterTable& table, const StateStore& states);

}  // namespace serval
