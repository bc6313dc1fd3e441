// The "post_processor" section of a tokenizer.json: special tokens around the text, and trimmed spans.
//
//   std::unique_ptr<PostProcessor> post = make_post_processor(json.at("post_processor"), where);
//   post->apply(input, tokens, /*add_special_tokens=*/true);   // tokens.list grows
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizer/json_part.h"
#include "text/tokenizer/pieces.h"

namespace serval {

struct PlacedToken {
  int32_t id;
  InputSpan span;
  std::string_view text;  // as the vocabulary spells it, or the stretch of text that an added token took
};

// All tokens of a text. A template leaves them in parts, each of which the next processor of a sequence takes
// for a text of its own, as the reference does.
struct PlacedTokens {
  std::vector<PlacedToken> list;
  std::vector<size_t> part_ends;  // in list; of one part alone it may be empty
};

class PostProcessor : public JsonPart {
 public:
  virtual ~PostProcessor() = default;
  virtual void apply(std::string_view input, PlacedTokens& tokens, bool add_special_tokens) const = 0;
  virtual bool reads_text() const { return false; }  // needs the tokens' texts, else they may be empty
};

// nullptr for null. A type that is not supported is a UserError that names it.
std::unique_ptr<PostProcessor> make_post_processor(const Json& value, const std::string& where);
// One text between these tokens, and nothing else.
struct SpelledToken {
  std::string text;
  int32_t id;
};
std::unique_ptr<PostProcessor> make_wrapping_post_processor(const std::vector<SpelledToken>& before,
                                                            const std::vector<SpelledToken>& behind);

}  // namespace serval
