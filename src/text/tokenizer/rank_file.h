// Byte-level vocabularies without merges: tiktoken rank files ("*.tiktoken": lines of base64 and rank) and
// Mistral's tekken.json. The pattern that cuts the text is in tekken.json; for a rank file it follows from
// the encoding's name.
//
//   TokenizerParts parts = parts_from_tiktoken(bytes, {.encoding = "cl100k_base"}, settings, path);
//   TokenizerParts parts = parts_from_tekken(bytes, settings, path);
#pragma once
#include <string>
#include <string_view>

#include "text/tokenizer/configured_tokens.h"
#include "text/tokenizer/parts.h"

namespace serval {

// gpt2, r50k_base, p50k_base, p50k_edit, cl100k_base, o200k_base, o200k_harmony, qwen, llama3, llama4, kimi.
bool is_known_encoding(std::string_view name);

// Whether the bytes are lines of base64 and rank.
bool looks_like_tiktoken(std::string_view bytes);

struct TiktokenOptions {
  // The name of an encoding or a regular expression. "": what the file's name says ("cl100k_base.tiktoken"),
  // else what its number of ranks says (llama3, llama4, kimi, qwen, o200k_base ...), else an error.
  std::string pattern;
};
TokenizerParts parts_from_tiktoken(std::string_view bytes, const TiktokenOptions& options,
                                   const TokenizerSettings& settings, const std::string& path);

TokenizerParts parts_from_tekken(std::string_view bytes, const TokenizerSettings& settings,
                                 const std::string& path);

}  // namespace serval
