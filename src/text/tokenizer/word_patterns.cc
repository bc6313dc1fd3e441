#include "text/tokenizer/word_patterns.h"

#include <array>
#include <cstdint>

#include "text/tokenizer/characters.h"

namespace serval {
namespace {

enum : uint8_t {
  kLetter = 1,     // \p{L}
  kNumber = 2,     // \p{N}
  kBlank = 4,      // \s
  kNewline = 8,    // \r, \n
  kUpperish = 16,  // Lu, Lt, Lm, Lo, M
  kLowerish = 32,  // Ll, Lm, Lo, M
  kMark = 64,      // \p{M}
};

constexpr auto kOfCategory = [] {
  using namespace unicode;
  std::array<uint8_t, 32> of{};
  of[kCategoryLu] = of[kCategoryLt] = kLetter | kUpperish;
  of[kCategoryLl] = kLetter | kLowerish;
  of[kCategoryLm] = of[kCategoryLo] = kLetter | kUpperish | kLowerish;
  of[kCategoryMn] = of[kCategoryMc] = of[kCategoryMe] = kMark | kUpperish | kLowerish;
  of[kCategoryNd] = of[kCategoryNl] = of[kCategoryNo] = kNumber;
  of[kCategoryZs] = of[kCategoryZl] = of[kCategoryZp] = kBlank;
  return of;
}();

constexpr auto kOfAscii = [] {
  std::array<uint8_t, 128> of{};
  for (unsigned char c = 'a'; c <= 'z'; ++c) of[c] = kLetter | kLowerish;
  for (unsigned char c = 'A'; c <= 'Z'; ++c) of[c] = kLetter | kUpperish;
  for (unsigned char c = '0'; c <= '9'; ++c) of[c] = kNumber;
  for (const unsigned char c : {' ', '\t', '\v', '\f'}) of[c] = kBlank;
  for (const unsigned char c : {'\r', '\n'}) of[c] = kBlank | kNewline;
  return of;
}();

// The class of the character at `at`; moves `at` behind it.
inline uint8_t take(std::string_view text, size_t& at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return ++at, kOfAscii[byte];
  const char32_t c = next_character(text, at);
  if (c == 0x85) return kBlank;
  return kOfCategory[character_record(c).category];
}

// The end of the run from `at` of characters that have one of the classes `in` and none of `out`.
inline size_t run_end(std::string_view text, size_t at, uint8_t in, uint8_t out = 0) {
  while (at < text.size()) {
    size_t next = at;
    const uint8_t its = take(text, next);
    if ((in != 0 && (its & in) == 0) || (its & out) != 0) break;
    at = next;
  }
  return at;
}

// 's, 't, 're, 've, 'm, 'll, 'd at `at`: its end, or `at`. Folding case, U+017F is an s too.
template <bool kFold>
size_t contraction_end(std::string_view text, size_t at) {
  if (at + 1 >= text.size() || text[at] != '\'') return at;
  const auto letter = [&](size_t i) {
    if (i >= text.size()) return '\0';
    return static_cast<char>(kFold && text[i] >= 'A' && text[i] <= 'Z' ? text[i] | 0x20 : text[i]);
  };
  const char first = letter(at + 1), second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
    return at + 3;
  if (kFold && text.substr(at + 1, 2) == "\xC5\xBF") return at + 3;
  return at;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ for a text that starts with white space; without newlines \s+(?!\S)|\s+.
size_t blank_end(std::string_view text, size_t begin, bool newlines) {
  size_t end = begin, last = begin, behind_newline = begin;
  while (end < text.size()) {
    size_t next = end;
    const uint8_t its = take(text, next);
    if ((its & kBlank) == 0) break;
    last = end;
    end = next;
    if ((its & kNewline) != 0) behind_newline = end;
  }
  if (newlines && behind_newline > begin) return behind_newline;
  // The last blank before a word is left for it, unless it is the only one.
  return end == text.size() || last == begin ? end : last;
}

// GPT-2.
size_t gpt2_word_end(std::string_view text, size_t begin) {
  if (const size_t end = contraction_end<false>(text, begin); end > begin) return end;
  size_t at = begin;
  uint8_t its = take(text, at);
  if (text[begin] == ' ' && at < text.size()) its = take(text, at);
  if ((its & kBlank) != 0) return blank_end(text, begin, /*newlines=*/false);
  if ((its & kLetter) != 0) return run_end(text, at, kLetter);
  if ((its & kNumber) != 0) return run_end(text, at, kNumber);
  return run_end(text, at, 0, kBlank | kLetter | kNumber);
}

size_t digits_end(std::string_view text, size_t at, int most) {
  for (int i = 0; i < most && at < text.size(); ++i) {
    size_t next = at;
    if ((take(text, next) & kNumber) == 0) break;
    at = next;
  }
  return at;
}

//  ?[^\s\p{L}\p{N}]+[\r\n]* at `begin`, or `begin`. `visible` is what the run may not hold.
template <bool kSlash>
size_t symbols_end(std::string_view text, size_t begin, uint8_t out) {
  const size_t from = begin + (text[begin] == ' ' ? 1 : 0);
  size_t end = run_end(text, from, 0, out);
  if (end == from) return begin;
  while (end < text.size() && (text[end] == '\r' || text[end] == '\n' || (kSlash && text[end] == '/'))) ++end;
  return end;
}

// GPT-4 (cl100k), Llama 3, Qwen 2.
template <int kDigits, bool kMarks>
size_t gpt4_word_end(std::string_view text, size_t begin) {
  if (const size_t end = contraction_end<true>(text, begin); end > begin) return end;
  constexpr uint8_t kInWord = kMarks ? kLetter | kMark : kLetter;
  size_t at = begin;
  const uint8_t first = take(text, at);
  if ((first & kInWord) != 0) return run_end(text, at, kInWord);
  if ((first & kNumber) != 0) return digits_end(text, begin, kDigits);
  if ((first & kNewline) == 0 && at < text.size()) {
    size_t next = at;
    if ((take(text, next) & kInWord) != 0) return run_end(text, next, kInWord);
  }
  if (const size_t end = symbols_end<false>(text, begin, kBlank | kNumber | kInWord); end > begin) return end;
  return blank_end(text, begin, /*newlines=*/true);
}

// Upper then lower case, as many upper as leave a lower one: [Upperish]*[Lowerish]+ at `at`, or `at`.
size_t cased_end(std::string_view text, size_t at) {
  size_t upper = at, behind_last_both = at;
  while (upper < text.size()) {
    size_t next = upper;
    const uint8_t its = take(text, next);
    if ((its & kUpperish) == 0) break;
    upper = next;
    if ((its & kLowerish) != 0) behind_last_both = next;
  }
  const size_t end = run_end(text, upper, kLowerish);
  return end > upper ? end : behind_last_both;
}

// GPT-4o (o200k), Mistral's tekken.
template <int kDigits, bool kContractions>
size_t gpt4o_word_end(std::string_view text, size_t begin) {
  const auto finish = [&](size_t end) { return kContractions ? contraction_end<true>(text, end) : end; };
  size_t at = begin;
  const uint8_t first = take(text, at);
  // One character that is no letter, number or newline may stand before the word.
  const bool prefix = (first & (kNewline | kLetter | kNumber)) == 0;
  if (prefix)
    if (const size_t end = cased_end(text, at); end > at) return finish(end);
  if (const size_t end = cased_end(text, begin); end > begin) return finish(end);
  if (prefix)
    if (const size_t end = run_end(text, at, kUpperish); end > at) return finish(end);
  if (const size_t end = run_end(text, begin, kUpperish); end > begin) return finish(end);
  if ((first & kNumber) != 0) return digits_end(text, begin, kDigits);
  if (const size_t end = symbols_end<true>(text, begin, kBlank | kLetter | kNumber); end > begin) return end;
  return blank_end(text, begin, /*newlines=*/true);
}

constexpr KnownWordPattern kPatterns[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", gpt2_word_end},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     gpt4_word_end<3, false>},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     gpt4_word_end<1, false>},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     gpt4_word_end<1, true>},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     gpt4o_word_end<3, true>},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     gpt4o_word_end<1, false>},
};

}  // namespace

WordEnd known_word_pattern(std::string_view expression) {
  for (const KnownWordPattern& known : kPatterns)
    if (known.expression == expression) return known.word_end;
  return nullptr;
}

std::span<const KnownWordPattern> known_word_patterns() {
  return kPatterns;
}

}  // namespace serval
