// Unicode for the tokenizer: stepping through UTF-8, and the character classes that tokenizer.json parts
// speak of.
//
//   for (size_t at = 0; at < text.size();) { const char32_t c = next_character(text, at); ... }   // moves
//   `at`
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/unicode.h"

namespace serval {

inline bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}
// `text` must be valid UTF-8 and at < text.size(); moves `at` past the character.
inline char32_t next_character(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
  const char32_t lead = byte(at);
  if (lead < 0x80) return ++at, lead;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (at + length > text.size()) return at = text.size(), U'\uFFFD';  // never in valid UTF-8
  char32_t c = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) c = (c << 6) | (byte(at + i) & 0x3F);
  at += length;
  return c;
}
char32_t last_character(std::string_view text);  // text must not be empty
void append_utf8(std::string& out, char32_t character);

inline bool is_space(char32_t c) {  // White_Space
  return c < 0x80 ? c == ' ' || (c >= 9 && c <= 13) : (character_record(c).flags & unicode::kSpace) != 0;
}
inline bool is_word(char32_t c) {  // letters, marks, digits, connectors: beside them a word goes on
  return (character_record(c).flags & unicode::kWord) != 0;
}
inline bool is_numeric(char32_t c) {
  return (character_record(c).flags & unicode::kNumeric) != 0;
}
inline bool is_punctuation(char32_t c) {
  return (character_record(c).flags & unicode::kPunctuation) != 0;
}

// The bytes that are not UTF-8 become U+FFFD, one for each maximal part of a character, as in Python's
// decode(errors="replace").
class ValidUtf8 {
 public:
  explicit ValidUtf8(std::string_view input);
  ValidUtf8(const ValidUtf8&) = delete;
  ValidUtf8& operator=(const ValidUtf8&) = delete;
  std::string_view text() const { return text_; }
  // The offset in the input of an offset in text() that lies between two characters.
  int64_t input_offset(int64_t offset) const;

 private:
  std::string_view text_;  // the input itself where it is valid
  std::string repaired_;
  std::vector<int64_t> offsets_;  // for each byte of repaired_ and its end; empty where the input is valid
};

// The valid start of `text` in bytes, and the length of the ill-formed part there (0 at the end).
struct Utf8Prefix {
  size_t valid = 0, ill_formed = 0;
};
Utf8Prefix valid_utf8_prefix(std::string_view text);
std::string to_valid_utf8(std::string_view bytes);

// GPT-2's printable stand-in for each byte, as UTF-8, and back (-1: stands for no byte).
std::string_view byte_character(unsigned char byte);
int byte_of_character(char32_t c);

}  // namespace serval
