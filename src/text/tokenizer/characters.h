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

namespace serval {

// `text` must be valid UTF-8 and at < text.size(); moves `at` past the character.
char32_t next_character(std::string_view text, size_t& at);
char32_t last_character(std::string_view text);  // text must not be empty
void append_utf8(std::string& out, char32_t character);
inline bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

bool is_space(char32_t c);        // White_Space
bool is_word(char32_t c);         // what \w matches in a regular expression
bool is_numeric(char32_t c);      // Nd, Nl, No
bool is_punctuation(char32_t c);  // ASCII punctuation and the P categories

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
