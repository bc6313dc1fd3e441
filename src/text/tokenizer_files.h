// A tokenizer, whatever file it was read from, as the files that transformers and `tokenizers` read. A
// tokenizer that came from a tokenizer.json keeps that file byte for byte but for what was added to it.
//
//   const auto [more, ids] = Tokenizer::from_path("model.gguf").with_added_tokens(tokens);
//   write_tokenizer(more, "out");      // out/tokenizer.json, out/tokenizer_config.json
#pragma once
#include <string>

#include "text/tokenizer.h"

namespace serval {

// The text of a tokenizer.json that gives the same ids and texts. Where tokenizers and the source differ in
// kind, docs/tokenizers.md says by how much (SentencePiece's rules, user-defined symbols).
std::string tokenizer_json(const Tokenizer& tokenizer);

// tokenizer.json and tokenizer_config.json, and special_tokens_map.json and added_tokens.json where they lie
// beside the source, into an existing directory.
void write_tokenizer(const Tokenizer& tokenizer, const std::string& directory);

// Whether the files of the tokenizer's source say less than the tokenizer: tokens were added or named, or
// transformers does not read a file of that kind (GGUF, tiktoken, tekken).
bool needs_writing(const Tokenizer& tokenizer);
// Whether they would contradict it: tokens were added or named.
bool was_changed(const Tokenizer& tokenizer);

}  // namespace serval
