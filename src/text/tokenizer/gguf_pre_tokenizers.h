// The names that "tokenizer.ggml.pre" of a GGUF may have, and what each means. Where llama.cpp only comes
// near the pattern of the model's own tokenizer.json, the latter is used.
//
//   const GgufPreTokenizer* pre = find_gguf_pre_tokenizer("llama-bpe");   // nullptr: not known
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace serval {

struct GgufPreTokenizer {
  std::vector<std::string_view> names;
  std::vector<std::string_view> patterns;  // one after the other; matches and what lies between are pieces
  bool ignore_merges = false;
  bool add_bos = false;        // unless the file says otherwise
  bool by_characters = false;  // blanks are U+2581 and unknown characters bytes; else byte-level
};

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);
const std::vector<GgufPreTokenizer>& gguf_pre_tokenizers();

}  // namespace serval
