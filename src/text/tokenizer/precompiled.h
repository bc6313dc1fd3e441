// Normalizers with SentencePiece's precompiled rules.
//
//   auto normalizer = make_precompiled_normalizer(json.at("normalizer"), where);
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/normalizer.h"

namespace serval {

// The "Precompiled" normalizer of a tokenizer.json, {"precompiled_charsmap": base64}: a rule is applied to a
// whole grapheme of less than six bytes, else to each of its characters.
std::unique_ptr<Normalizer> make_precompiled_normalizer(const Json& value, const std::string& where);

// What SentencePiece itself (and llama.cpp for its Unigram models) does to a text.
struct SentencePieceRules {
  Charsmap charsmap;                     // the longest rule at each place is applied
  ByteTrie kept;                         // strings that no rule changes: user-defined symbols
  bool add_dummy_prefix = true;          // a blank before the text, or behind it with whitespace_as_suffix
  bool remove_extra_whitespaces = true;  // at both ends, and of each run all but one
  bool escape_whitespaces = true;        // a blank is written as U+2581
  bool whitespace_as_suffix = false;
};
std::unique_ptr<Normalizer> make_sentencepiece_normalizer(SentencePieceRules rules);

}  // namespace serval
