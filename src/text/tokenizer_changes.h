// What a configuration asks of a tokenizer: tokens to add, and tokens to name for a role.
//
//   ChangedTokenizer changed = change_tokenizer(std::move(tokenizer), {.add = {{"<|im_end|>", true}},
//                                                                      .name = {{"eos_token",
//                                                                      "<|im_end|>"}}});
//   changed.new_ids;      // tokens that there were not: the model has no rows for them, or unused ones
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace serval {

struct TokenizerChanges {
  std::vector<NewToken> add;     // a token that is there already keeps its id
  std::vector<NamedToken> name;  // "eos_token" and so on; of tokens that are there, or added
  bool empty() const { return add.empty() && name.empty(); }
  std::string text() const;  // the same for equal changes; "" for none
};

struct ChangedTokenizer {
  Tokenizer tokenizer;
  std::vector<int32_t> new_ids;                 // ascending
  std::vector<std::vector<int32_t>> spellings;  // of each of them: the ids that its text had before
  int64_t old_size = 0;                         // vocab_size() before
};

// A UserError names a role whose token is none.
ChangedTokenizer change_tokenizer(Tokenizer tokenizer, const TokenizerChanges& changes);

}  // namespace serval
