// Vocabularies in plain files: vocab.json with merges.txt (GPT-2, Qwen, RoBERTa ...), and BERT's vocab.txt.
// The class that tokenizer_config.json names decides how the text is cut.
//
//   TokenizerParts parts = parts_from_vocabulary_and_merges("model/vocab.json", "model/merges.txt",
//   settings); TokenizerParts parts = parts_from_word_list("model/vocab.txt", settings);
#pragma once
#include <string>

#include "text/tokenizer/configured_tokens.h"
#include "text/tokenizer/parts.h"

namespace serval {

TokenizerParts parts_from_vocabulary_and_merges(const std::string& vocabulary_path,
                                                const std::string& merges_path,
                                                const TokenizerSettings& settings);
TokenizerParts parts_from_word_list(const std::string& path, const TokenizerSettings& settings);

// A WordPiece tokenizer as BERT has it; words[i] has the id i. The settings are those of parts.config:
// do_lower_case, strip_accents, tokenize_chinese_chars, cls_token, sep_token, unk_token.
struct WordPieceSource {
  std::vector<std::string> words;
  int64_t max_word_characters = 100;  // longer words are unknown
};
TokenizerParts parts_from_word_pieces(const WordPieceSource& source, Json config, const std::string& where);

}  // namespace serval
