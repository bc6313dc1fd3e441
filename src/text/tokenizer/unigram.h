// The Unigram model: of all ways to write a text as tokens, the one with the largest sum of scores. One pass
// over the text, which costs its length times the length of a token.
//
//   UnigramModel model(std::move(vocabulary), std::move(scores), options);
//   std::vector<ModelToken> tokens;
//   model.tokenize("▁Hello", /*byte_level=*/false, tokens);
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/token_model.h"
#include "text/tokenizer/token_table.h"

namespace serval {

// What an unknown character costs beyond the worst token.
inline constexpr double kUnknownPenalty = 10.0;

struct UnigramOptions {
  int32_t unk_id = -1;         // -1: none, and a text that needs it is a UserError
  double unk_score = 0;        // of a character without a token, worst score - kUnknownPenalty
  bool byte_fallback = false;  // an unknown run becomes the tokens <0xNN> of its bytes
  // SentencePiece keeps the sums in f32; the `tokenizers` library and llama.cpp keep them in f64. Where two
  // ways are equally good, that decides.
  bool single_precision = false;
  // `tokenizers` looks the text of an unknown run up in the vocabulary once more.
  bool looks_up_unknown_runs = true;
};

class UnigramModel final : public TokenModel {
 public:
  // scores: by id, as many as vocabulary.id_end(); NaN keeps a token from being found in a text.
  // `where` names the file in errors.
  UnigramModel(TokenTable vocabulary, std::vector<double> scores, UnigramOptions options, std::string where);

  // Neighbouring unknown characters are one token.
  void tokenize(std::string_view text, bool byte_level, std::vector<ModelToken>& out) const override;
  const TokenTable& vocabulary() const override { return vocabulary_; }
  void write_json(std::string& out, const ModelJsonOptions& options) const override;
  int32_t surface_id() const override { return options_.unk_id; }

 private:
  template <class Score>
  void find_best_path(std::string_view text, std::vector<ModelToken>& reversed) const;
  void put_unknown(std::string_view text, ModelToken run, std::vector<ModelToken>& out) const;

  TokenTable vocabulary_;
  std::vector<double> scores_;
  UnigramOptions options_;
  std::string where_;
  ByteTrie trie_;
  std::vector<int32_t> fallback_id_;  // of "<0xNN>", -1: none
};

}  // namespace serval
