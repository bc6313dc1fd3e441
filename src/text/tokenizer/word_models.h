// The models that know whole words: "WordLevel" (a word of the vocabulary or the unknown token) and
// "WordPiece" (BERT: the longest token that starts the word, then the longest that goes on, marked by a
// prefix).
//
//   WordPieceModel model(std::move(vocabulary), {.unk_token = "[UNK]"}, "tokenizer.json");
//   model.tokenize("playing", /*byte_level=*/false, tokens);   // "play", "##ing"
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/token_model.h"

namespace serval {

class WordLevelModel final : public TokenModel {
 public:
  WordLevelModel(TokenTable vocabulary, std::string unk_token, std::string where)
      : vocabulary_(std::move(vocabulary)), unk_token_(std::move(unk_token)), where_(std::move(where)) {}
  const TokenTable& vocabulary() const override { return vocabulary_; }
  void write_json(std::string& out, const ModelJsonOptions& options) const override;
  // A word that is not known, where the vocabulary has no unknown token, is a UserError.
  void tokenize(std::string_view piece, bool byte_level, std::vector<ModelToken>& out) const override;

 private:
  TokenTable vocabulary_;
  std::string unk_token_, where_;
};

struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  int64_t max_input_chars_per_word = 100;  // a longer word is unknown
};

class WordPieceModel final : public TokenModel {
 public:
  WordPieceModel(TokenTable vocabulary, WordPieceOptions options, std::string where)
      : vocabulary_(std::move(vocabulary)), options_(std::move(options)), where_(std::move(where)) {}
  const TokenTable& vocabulary() const override { return vocabulary_; }
  void write_json(std::string& out, const ModelJsonOptions& options) const override;
  // A word that cannot be put together is one unknown token, or a UserError where there is none.
  void tokenize(std::string_view piece, bool byte_level, std::vector<ModelToken>& out) const override;

 private:
  TokenTable vocabulary_;
  WordPieceOptions options_;
  std::string where_;
};

}  // namespace serval
