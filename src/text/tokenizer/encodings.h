// Encodings that are known by name: how they cut a text and which special tokens they have. A rank file holds
// neither.
//
//   const KnownEncoding* encoding = find_encoding("cl100k_base");
//   encoding->pattern;
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace serval {

struct KnownEncoding {
  const char* name;
  const char* pattern;
  int64_t ranks;     // ids below this one are ranks
  bool nfc = false;  // the text is brought to NFC first
};

// Patterns that several tokenizers share.
namespace patterns {
extern const char* const kGpt2;    // GPT-2, r50k, p50k
extern const char* const kCl100k;  // GPT-4
extern const char* const kO200k;   // GPT-4o, Llama 4
extern const char* const kLlama3;  // Llama 3: numbers in threes
extern const char* const kQwen2;   // Qwen 2: single digits
extern const char* const kQwen35;  // Qwen 3.5: marks belong to words
extern const char* const kKimi;    // Kimi: runs of Han apart
extern const char* const kTekken;  // Mistral Nemo: single digits, words by case
}  // namespace patterns

const KnownEncoding* find_encoding(std::string_view name);   // nullptr: not known
const KnownEncoding* find_encoding_by_ranks(int64_t ranks);  // nullptr: none, or several that differ
std::string names_of_encodings();                            // "gpt2, r50k_base, ..."
std::vector<std::pair<std::string, int32_t>> special_tokens_of(const KnownEncoding& encoding);
// What tokenizer_config.json would say: bos_token, eos_token, add_bos_token.
Json::Object config_of(const KnownEncoding& encoding);

// Of tekken.json files that do not list them.
std::vector<std::string> old_tekken_special_tokens();

}  // namespace serval
