// The patterns of a tokenizer.json: a literal string, or a regular expression in the dialect of Oniguruma,
// which is rewritten for PCRE2. Thread-safe; matching is bounded, and a pattern that needs more is a
// UserError.
//
//   Pattern pattern = Pattern::regex("\\p{L}+", "tokenizer.json: pre_tokenizer");
//   std::vector<Stretch> stretches;
//   pattern.find("ab cd", stretches);   // matched and unmatched stretches that cover the text
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizer/pieces.h"
#include "text/tokenizer/word_patterns.h"

namespace serval {

class Pattern {
 public:
  static Pattern literal(std::string text);
  // A known word pattern is matched by its own code, unless `known` is false.
  static Pattern regex(std::string_view expression, const std::string& where, bool known = true);
  // {"String": s} or {"Regex": s}.
  static Pattern from_json(const Json& value, const std::string& where);
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;
  ~Pattern();

  // `text` must be valid UTF-8; `stretches` is replaced.
  void find(std::string_view text, std::vector<Stretch>& stretches) const;

  WordEnd word_end() const { return word_end_; }  // of a known word pattern, else null

 private:
  struct Code;
  Pattern();
  template <class OnMatch>
  void for_each_match(std::string_view text, const OnMatch& on_match) const;
  std::string literal_;
  std::unique_ptr<const Code> code_;  // null for a literal and for a known pattern
  WordEnd word_end_ = nullptr;
  std::string where_;
};

// The same expression for PCRE2. Exposed for its test.
std::string translate_oniguruma(std::string_view expression, const std::string& where);

}  // namespace serval
