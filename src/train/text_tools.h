// What turns conversations into tokens: a tokenizer and the chat template that is used with it. Every verb
// opens them here, so that all choose the same template and say the same of the files.
//
//   const TextTools tools = open_text_tools({.tokenizer = "model", .chat_template = "chatml"});
//   report_findings(tools.tokenizer, model_tokens(tools, "model"));
//   use(tools.tokenizer, tools.chat());
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/train_config.h"
#include "formats/checkpoint.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "text/tokenizer_changes.h"
#include "text/tokenizer_check.h"

namespace serval {

struct TextToolsOptions {
  std::string tokenizer;        // directory, or one file of a tokenizer
  std::string chat_template{};  // a built-in name or a file; "": the adapter's, else the tokenizer's own
  std::string adapter{};        // directory whose chat_template.jinja counts; "" for none
  TokenizerChanges changes{};   // tokens to add and to name
  bool with_fingerprint = true;
  bool quiet = false;  // nothing is logged
};

struct TextTools {
  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat_template;
  bool own_template = true;  // the files of the tokenizer's directory hold that template
  std::string fingerprint;   // fingerprint_of_tokenizer()
  // What the changes added: the ids, and the ids that each text had before.
  std::vector<int32_t> new_ids{};
  std::vector<std::vector<int32_t>> spellings{};
  int64_t old_vocab_size = 0;  // of the tokenizer without the changes
  const ChatTemplate* chat() const { return chat_template ? &*chat_template : nullptr; }
};

// What a configuration asks of the tokenizer. Special tokens come first, as in Axolotl.
TokenizerChanges tokenizer_changes(const TrainConfig& config);

// Where the tokenizer of a run lies: as named, else beside the adapter, if that brings a tokenizer.json, else
// beside the model.
std::string tokenizer_path(const std::string& named, const std::string& model_directory,
                           const std::string& adapter);

// Logs what the user should know of the tokenizer's files, and the template where it is not their own. A
// built-in template whose end-of-turn token the tokenizer lacks is a UserError.
TextTools open_text_tools(const TextToolsOptions& options);

// The Jinja source to keep beside a trained model. A built-in template brings a bos_token and an eos_token
// where the tokenizer names none; these are then written into the source.
std::string shipped_source(const ChatTemplate& chat, const Tokenizer& tokenizer);

// eos_token_id of generation_config.json and config.json, in this order; empty where neither names one.
std::vector<int32_t> eos_ids_of(const std::string& directory);

// What the files of a model say of its tokens. With its `checkpoint`, the embeddings of the special tokens
// that the template uses are looked at too.
ModelTokens model_tokens(const TextTools& tools, const std::string& directory,
                         const Checkpoint* checkpoint = nullptr);

// The findings of check_tokenizer, a line each, with the key that mends it.
void report_findings(const Tokenizer& tokenizer, const ModelTokens& model);

}  // namespace serval
