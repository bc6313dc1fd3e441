// Template source to tokens, as jinja2 with trim_blocks and lstrip_blocks: the white space rules are applied
// here, so that `data` tokens hold exactly the text to print.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace serval::jinja {

enum class TokenType : uint8_t {
  data,
  block_begin,
  block_end,
  variable_begin,
  variable_end,
  name,
  string,
  integer,
  real,
  op,  // text holds it: "+", "**", "(", ...
  end,
};

struct Token {
  TokenType type = TokenType::end;
  uint32_t offset = 0;  // byte of the source
  std::string text;     // name, operator, data, the string with its escapes resolved, or an integer's digits
                        // where they do not fit 64 bits
  int64_t integer = 0;
  double real = 0;

  bool is_op(std::string_view symbol) const { return type == TokenType::op && text == symbol; }
  bool is_name(std::string_view word) const { return type == TokenType::name && text == word; }
  std::string describe() const;  // for messages
};

// Line breaks become "\n" and one at the end is dropped, as jinja2 does. Offsets of tokens refer to this
// text.
std::string normalize_source(std::string_view source);
// `source` is normalized. The last token is `end`. Raises TemplateError with its place.
std::vector<Token> tokenize(std::string_view source);

}  // namespace serval::jinja
