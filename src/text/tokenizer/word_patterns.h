// The regular expressions that most tokenizers cut text into words with, written by hand. Each gives what
// matching the expression again and again does; the test compares the two.
//
//   if (const WordEnd word_end = known_word_pattern(expression))
//     for (size_t begin = 0, end; begin < text.size(); begin = end) end = word_end(text, begin);
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

namespace serval {

// Where the word that starts at `begin` < text.size() ends; every byte is in a word. `text` is valid UTF-8.
using WordEnd = size_t (*)(std::string_view text, size_t begin);

// nullptr for an expression that is not among them.
WordEnd known_word_pattern(std::string_view expression);
// All of them, for the test.
struct KnownWordPattern {
  std::string_view expression;
  WordEnd word_end;
};
std::span<const KnownWordPattern> known_word_patterns();

}  // namespace serval
