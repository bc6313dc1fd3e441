// What is known to break fine-tunes in the files of a tokenizer. Nothing is changed here: each finding is
// told to the user, and repaired through Tokenizer::with_named_tokens only where the configuration says so.
//
//   for (const TokenizerFinding& finding : check_tokenizer(tokenizer, {.embedding_rows = config.vocab_size}))
//     warn("{}", finding.message);
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace serval {

// What the model says; a default where it is not known.
struct ModelTokens {
  int64_t embedding_rows = 0;
  std::vector<int32_t> eos_ids{};        // of generation_config.json or config.json
  std::vector<int32_t> untrained_ids{};  // tokens whose embedding was never trained (rows of zeros)
  std::string chat_template{};           // tokens written in it are used in training
};

struct TokenizerFinding {
  enum class Kind { kNoPad, kPadIsEos, kNoEos, kUnknownToken, kOtherEos, kNoRow, kUntrained };
  Kind kind;
  std::string message;                  // one line: what, and what to do
  std::optional<int32_t> suggested_id;  // for pad and eos: a token that would do
};

std::vector<TokenizerFinding> check_tokenizer(const Tokenizer& tokenizer, const ModelTokens& model);

// A token that may stand for padding: one that is named so or reserved, else the unknown token; never eos or
// bos.
std::optional<int32_t> suggest_pad_id(const Tokenizer& tokenizer, const ModelTokens& model);

}  // namespace serval
