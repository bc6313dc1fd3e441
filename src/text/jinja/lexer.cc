#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "text/jinja/big_integer.h"
#include "text/jinja/meter.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

constexpr std::array<std::string_view, 26> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                         "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                         ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' ||
         static_cast<signed char>(c) < 0;
}
int digit_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) read_root();
    push(TokenType::end, source_.size());
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(size_t at, const std::string& message) const {
    throw TemplateError(message, static_cast<int64_t>(at));
  }
  bool at(std::string_view text) const { return at(position_, text); }
  bool at(size_t position, std::string_view text) const {
    return source_.substr(std::min(position, source_.size()), text.size()) == text;
  }
  Token& push(TokenType type, size_t offset) {
    Token& token = tokens_.emplace_back();
    token.type = type;
    token.offset = static_cast<uint32_t>(offset);
    return token;
  }

  size_t skip_space(size_t position) const {
    while (position < source_.size()) {
      size_t next = position;
      if (!is_space(next_code_point(source_, next))) break;
      position = next;
    }
    return position;
  }

  // Text before a tag that has mark `sign`; a tag other than {{ takes the blanks of its own line with it.
  void push_data(size_t begin, size_t end, char sign, bool is_variable) {
    std::string_view text = source_.substr(begin, end - begin);
    if (sign == '-') {
      text = strip(text, "", false, true);
    } else if (sign != '+' && !is_variable) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line > 0 || line_starting_) && strip(text.substr(line), "", true, false).empty())
        text = text.substr(0, line);
    }
    if (!text.empty()) push(TokenType::data, begin).text = text;
  }

  static char sign_at(std::string_view source, size_t position) {
    const char c = position < source.size() ? source[position] : '\0';
    return c == '-' || c == '+' ? c : '\0';
  }

  // Moves past the end of a tag, whose mark and delimiter end at `end`, and the white space that goes with
  // it.
  void finish_tag(size_t end, char sign, bool trim_newline) {
    position_ = end;
    if (sign == '-')
      position_ = skip_space(end);
    else if (sign != '+' && trim_newline && at("\n"))
      position_++;
    line_starting_ = source_[position_ - 1] == '\n';
  }

  void read_root() {
    const size_t begin = position_;
    size_t open = begin;
    while (true) {
      open = source_.find('{', open);
      if (open == std::string_view::npos || open + 1 >= source_.size()) {
        push(TokenType::data, begin).text = source_.substr(begin);
        position_ = source_.size();
        return;
      }
      const char kind = source_[open + 1];
      if (kind == '%' || kind == '{' || kind == '#') break;
      open++;
    }
    const char kind = source_[open + 1];
    const char sign = sign_at(source_, open + 2);
    push_data(begin, open, sign, kind == '{');
    line_starting_ = false;
    position_ = open + (sign != '\0' ? 3 : 2);
    if (kind == '#') return read_comment(open);
    if (kind == '%' && read_raw(open)) return;
    push(kind == '%' ? TokenType::block_begin : TokenType::variable_begin, open);
    read_tag(kind == '%', open);
  }

  void read_comment(size_t open) {
    if (position_ >= source_.size()) return;
    const size_t close = source_.find("#}", position_);
    if (close == std::string_view::npos) error(open, "Missing end of comment tag");
    const char sign = close > position_ ? sign_at(source_, close - 1) : '\0';
    finish_tag(close + 2, sign, true);
  }

  // {% raw %} ... {% endraw %}: the text between is data, whatever it holds.
  bool read_raw(size_t open) {
    size_t p = skip_space(position_);
    if (!at(p, "raw")) return false;
    p = skip_space(p + 3);
    char sign = sign_at(source_, p);
    if (sign == '+') return false;
    if (sign == '-') p++;
    if (!at(p, "%}")) return false;
    // A newline after {% raw %} stays.
    finish_tag(p + 2, sign, false);
    const size_t begin = position_;
    for (size_t tag = begin; (tag = source_.find("{%", tag)) != std::string_view::npos; tag += 2) {
      const char open_sign = sign_at(source_, tag + 2);
      size_t q = skip_space(tag + (open_sign != '\0' ? 3 : 2));
      if (!at(q, "endraw")) continue;
      q = skip_space(q + 6);
      const char close_sign = sign_at(source_, q);
      if (close_sign != '\0') q++;
      if (!at(q, "%}")) continue;
      push_data(begin, tag, open_sign, false);
      finish_tag(q + 2, close_sign, true);
      return true;
    }
    error(open, "Missing end of raw directive");
  }

  // Tokens of a statement or an expression up to its end, which counts only outside of brackets.
  void read_tag(bool is_block, size_t open) {
    const std::string_view close = is_block ? "%}" : "}}";
    std::vector<char> brackets;
    while (position_ < source_.size()) {
      const char c = source_[position_];
      if (brackets.empty()) {
        const bool marked = c == '-' || (is_block && c == '+');
        if (at(position_ + (marked ? 1 : 0), close)) {
          push(is_block ? TokenType::block_end : TokenType::variable_end, position_);
          finish_tag(position_ + (marked ? 3 : 2), marked ? c : '\0', is_block);
          return;
        }
      }
      size_t next = position_;
      if (is_space(next_code_point(source_, next))) {
        position_ = next;
      } else if (is_digit(c)) {
        read_number();
      } else if (is_word(c)) {
        read_name();
      } else if (c == '\'' || c == '"') {
        read_string(c);
      } else {
        read_operator(brackets);
      }
    }
    error(open, is_block ? "unexpected end of template, expected 'end of statement block'."
                         : "unexpected end of template, expected 'end of print statement'.");
  }

  void read_name() {
    const size_t begin = position_;
    bool is_identifier = true;
    while (position_ < source_.size() && is_word(source_[position_])) {
      size_t next = position_;
      const char32_t c = next_code_point(source_, next);
      if (!continues_identifier(c) && !is_alphanumeric(c)) break;
      is_identifier = is_identifier && (position_ == begin ? starts_identifier(c) : continues_identifier(c));
      position_ = next;
    }
    if (position_ == begin) error_unexpected();
    if (!is_identifier) error(begin, "Invalid character in identifier");
    push(TokenType::name, begin).text = source_.substr(begin, position_ - begin);
  }

  void read_operator(std::vector<char>& brackets) {
    for (const std::string_view op : kOperators) {
      if (!at(op)) continue;
      const char c = op[0];
      if (c == '(' || c == '[' || c == '{') brackets.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
      if (c == ')' || c == ']' || c == '}') {
        if (brackets.empty()) error(position_, fmt::format("unexpected '{}'", c));
        if (brackets.back() != c)
          error(position_, fmt::format("unexpected '{}', expected '{}'", c, brackets.back()));
        brackets.pop_back();
      }
      push(TokenType::op, position_).text = op;
      position_ += op.size();
      return;
    }
    error_unexpected();
  }

  [[noreturn]] void error_unexpected() const {
    size_t next = position_;
    next_code_point(source_, next);
    error(position_, fmt::format("unexpected char '{}'", source_.substr(position_, next - position_)));
  }

  // Digits with single underscores between them; gives the position after them.
  size_t skip_digits(size_t p) const {
    while (p < source_.size() &&
           (is_digit(source_[p]) || (source_[p] == '_' && p + 1 < source_.size() &&
                                     is_digit(source_[p + 1]) && is_digit(source_[p - 1]))))
      p++;
    return p;
  }

  void read_number() {
    const size_t begin = position_;
    const bool after_dot = begin > 0 && source_[begin - 1] == '.';
    size_t end = skip_digits(begin);
    bool is_real = false;
    if (!after_dot) {
      if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
        end = skip_digits(end + 1);
        is_real = true;
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        size_t p = end + 1;
        if (p < source_.size() && (source_[p] == '+' || source_[p] == '-')) p++;
        if (p < source_.size() && is_digit(source_[p])) {
          end = skip_digits(p);
          is_real = true;
        }
      }
    }
    if (is_real) {
      push_real(begin, end);
    } else {
      push_integer(begin);
    }
  }

  void push_real(size_t begin, size_t end) {
    std::string digits(source_.substr(begin, end - begin));
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    double value = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (result.ec == std::errc::result_out_of_range)
      value = digits.find("e-") != std::string::npos || digits.find("E-") != std::string::npos
                  ? 0
                  : std::numeric_limits<double>::infinity();
    push(TokenType::real, begin).real = value;
    position_ = end;
  }

  void push_integer(size_t begin) {
    int base = 10;
    size_t p = begin;
    if (source_[p] == '0' && p + 2 < source_.size()) {
      const char prefix = static_cast<char>(source_[p + 1] | 0x20);
      const int other = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 10;
      const size_t first = source_[p + 2] == '_' ? p + 3 : p + 2;
      if (other != 10 && first < source_.size() && digit_value(source_[first]) < other) {
        base = other;
        p += 2;
      }
    }
    const bool zeros_only = base == 10 && source_[p] == '0';
    int64_t value = 0;
    bool fits = true;
    std::string digits;
    for (; p < source_.size(); p++) {
      if (source_[p] == '_' && p + 1 < source_.size() && digit_value(source_[p + 1]) < base) continue;
      const int digit = digit_value(source_[p]);
      if (digit >= base || (zeros_only && digit != 0)) break;
      fits = fits && !__builtin_mul_overflow(value, int64_t{base}, &value) &&
             !__builtin_add_overflow(value, int64_t{digit}, &value);
      digits += source_[p];
    }
    Token& token = push(TokenType::integer, begin);
    token.integer = value;
    try {
      if (!fits) token.text = BigInteger::from_digits(digits, base).text();
    } catch (const TemplateError& problem) {
      error(begin, problem.what());
    }
    position_ = p;
  }

  void read_string(char quote) {
    const size_t begin = position_++;
    std::string text;
    while (position_ < source_.size() && source_[position_] != quote) {
      if (source_[position_] == '\\' && position_ + 1 < source_.size())
        read_escape(text);
      else
        text += source_[position_++];
    }
    if (position_ >= source_.size()) error(begin, fmt::format("unexpected char '{}'", quote));
    position_++;
    push(TokenType::string, begin).text = std::move(text);
  }

  char32_t read_hex(size_t digits, char kind) {
    char32_t value = 0;
    for (size_t i = 0; i < digits; i++) {
      const int digit = position_ < source_.size() ? digit_value(source_[position_]) : 99;
      if (digit > 15)
        error(position_, fmt::format("truncated \\{}{} escape", kind, std::string(digits, 'X')));
      value = value * 16 + static_cast<char32_t>(digit);
      position_++;
    }
    return value;
  }

  // The escapes of a Python string literal.
  void read_escape(std::string& text) {
    const size_t begin = position_;
    const char c = source_[position_ + 1];
    position_ += 2;
    static constexpr std::string_view kNames = "abfnrtv\\'\"";
    static constexpr std::string_view kCodes = "\a\b\f\n\r\t\v\\'\"";
    if (const size_t code = kNames.find(c); code != std::string_view::npos) {
      text += kCodes[code];
    } else if (c == '\n') {
      return;
    } else if (c >= '0' && c <= '7') {
      char32_t value = static_cast<char32_t>(c - '0');
      for (int i = 0; i < 2 && position_ < source_.size(); i++) {
        const char digit = source_[position_];
        if (digit < '0' || digit > '7') break;
        value = value * 8 + static_cast<char32_t>(digit - '0');
        position_++;
      }
      append_code_point(text, value);
    } else if (c == 'x') {
      append_code_point(text, read_hex(2, 'x'));
    } else if (c == 'u') {
      char32_t value = read_hex(4, 'u');
      // Two halves of a surrogate pair are one character.
      if (value >= 0xD800 && value < 0xDC00 && at("\\u")) {
        position_ += 2;
        const char32_t low = read_hex(4, 'u');
        value = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00) : 0xFFFD;
      }
      append_code_point(text, value);
    } else if (c == 'U') {
      const char32_t value = read_hex(8, 'U');
      if (value > 0x10FFFF) error(begin, "illegal Unicode character");
      append_code_point(text, value);
    } else if (c == 'N') {
      error(begin, "characters by name (\\N{...}) are not supported; write \\uXXXX");
    } else {
      text += '\\';
      position_ = begin + 1;
      size_t next = position_;
      next_code_point(source_, next);
      text += source_.substr(position_, next - position_);
      position_ = next;
    }
  }

  std::string_view source_;
  size_t position_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::string Token::describe() const {
  switch (type) {
    case TokenType::data:
      return "template data / text";
    case TokenType::block_begin:
      return "begin of statement block";
    case TokenType::block_end:
      return "end of statement block";
    case TokenType::variable_begin:
      return "begin of print statement";
    case TokenType::variable_end:
      return "end of print statement";
    case TokenType::string:
      return "string";
    case TokenType::integer:
      return "integer";
    case TokenType::real:
      return "float";
    case TokenType::end:
      return "end of template";
    case TokenType::name:
    case TokenType::op:
      return text;
  }
  return text;
}

std::string normalize_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); i++) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') i++;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace serval::jinja
