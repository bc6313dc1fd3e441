// The model of a tokenizer: what turns one piece of text, as the pre-tokenizer cut it, into tokens. BPE,
// Unigram, WordPiece and WordLevel implement it.
//
//   std::vector<ModelToken> tokens;
//   model->tokenize("hello", /*byte_level=*/false, tokens);   // appends
//   model->vocabulary().text(tokens[0].id);
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer/token_table.h"

namespace serval {

struct ModelToken {
  int32_t id;
  uint32_t begin, end;  // bytes of the piece
};

// What a tokenizer.json wants of the model beyond the model itself.
struct ModelJsonOptions {
  // Tokens that the vocabulary gets although the model does not know them: added tokens whose ids a reader
  // would not find otherwise.
  std::span<const std::pair<std::string, int32_t>> more_tokens{};
  bool takes_whole_pieces = false;  // a piece that is a token is taken whole
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  // Appends the tokens of `piece`, which is not empty and valid UTF-8 unless byte_level. With byte_level each
  // byte stands for its GPT-2 character; that is asked only of a model that reads_bytes(), others get the
  // characters spelled out. Thread-safe; the result depends on the piece alone, so that it can be kept.
  virtual void tokenize(std::string_view piece, bool byte_level, std::vector<ModelToken>& out) const = 0;
  // A place behind `at` where `piece` can be cut in two without another result, piece.size() where none is
  // near. `piece` is text.
  virtual size_t next_cut(std::string_view piece, [[maybe_unused]] size_t at) const { return piece.size(); }
  virtual const TokenTable& vocabulary() const = 0;
  virtual bool reads_bytes() const { return false; }
  // Appends the "model" section of a tokenizer.json.
  virtual void write_json(std::string& out, const ModelJsonOptions& options) const = 0;
  // The token that is spelled as the text it stands for, not as in the vocabulary; -1: none.
  virtual int32_t surface_id() const { return -1; }
};

}  // namespace serval
