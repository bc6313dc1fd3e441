#include "text/tokenizer_changes.h"

#include "base/json.h"

namespace serval {

std::string TokenizerChanges::text() const {
  std::string text;
  for (const NewToken& token : add)
    text += (token.special ? "special " : "token ") + json_quote(token.content);
  for (const NamedToken& token : name) text += token.role + ' ' + json_quote(token.content);
  return text;
}

ChangedTokenizer change_tokenizer(Tokenizer tokenizer, const TokenizerChanges& changes) {
  ChangedTokenizer changed{std::move(tokenizer), {}, {}, 0};
  const int64_t old_size = changed.old_size = changed.tokenizer.vocab_size();
  if (!changes.add.empty()) {
    auto [more, ids] = changed.tokenizer.with_added_tokens(changes.add);
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool first = ids[i] >= old_size + static_cast<int64_t>(changed.new_ids.size());
      if (!first) continue;
      changed.new_ids.push_back(ids[i]);
      changed.spellings.push_back(
          changed.tokenizer.encode(changes.add[i].content, {.add_special_tokens = false}).ids);
    }
    changed.tokenizer = std::move(more);
  }
  if (!changes.name.empty()) changed.tokenizer = changed.tokenizer.with_named_tokens(changes.name);
  return changed;
}

}  // namespace serval
