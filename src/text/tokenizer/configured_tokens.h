// The small files beside a vocabulary that is no tokenizer.json, as Hugging Face writes them:
// tokenizer_config.json, special_tokens_map.json and added_tokens.json, in the layouts of transformers 4
// and 5.
//
//   TokenizerSettings settings = read_tokenizer_settings("model");
//   parts.config = settings.config;
//   add_configured_tokens(parts);
#pragma once
#include <string>

#include "base/json.h"
#include "text/tokenizer/parts.h"

namespace serval {

struct TokenizerSettings {
  // tokenizer_config.json; what only special_tokens_map.json and added_tokens.json say is filled in, under
  // the keys that tokenizer_config.json has for it.
  Json config = Json::object();
  std::string tokenizer_class;  // without "Fast"; "" where the config names none
  std::string model_type;       // of config.json; ""
};
TokenizerSettings read_tokenizer_settings(const std::string& directory);

// Sets what the config leaves out: {"eos_token": "</s>"}. A null counts as said.
void set_defaults(Json& config, const Json::Object& defaults);

// Appends parts.config's tokens to parts.added_tokens as transformers does: added_tokens_decoder, then
// bos_token and its like, then additional or extra special tokens. One that the vocabulary has keeps its id
// there, others get the ids behind it.
void add_configured_tokens(TokenizerParts& parts);

}  // namespace serval
