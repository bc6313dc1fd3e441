#include "text/jinja/unicode.h"

#include <algorithm>
#include <string_view>

#include "text/jinja/meter.h"
#include "text/jinja/unicode_tables.h"

namespace serval::jinja {
namespace {

uint16_t search_flags(char32_t c) {
  const auto* after =
      std::upper_bound(kCharacterRanges.begin(), kCharacterRanges.end(), c,
                       [](char32_t value, const CharacterRange& r) { return value < r.first; });
  return std::prev(after)->flags;
}

uint16_t flags_of(char32_t c) {
  static const std::array<uint16_t, 128> ascii = [] {
    std::array<uint16_t, 128> table{};
    for (char32_t i = 0; i < 128; i++) table[i] = search_flags(i);
    return table;
  }();
  return c < ascii.size() ? ascii[c] : search_flags(c);
}

bool has(char32_t c, uint16_t flags) {
  return (flags_of(c) & flags) != 0;
}

// One character in another case, which may be several.
template <size_t Ranges, size_t Texts>
void append_case(std::string& out, char32_t c, const std::array<CaseRange, Ranges>& ranges,
                 const std::array<CaseText, Texts>& texts) {
  if (c < 0x80) {
    const bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    const bool lowers = ranges.front().first == 'A';
    out += static_cast<char>(!letter ? c : lowers ? c | 0x20 : c & ~0x20U);
    return;
  }
  const auto* range = std::lower_bound(ranges.begin(), ranges.end(), c,
                                       [](const CaseRange& r, char32_t value) { return r.last < value; });
  if (range != ranges.end() && c >= range->first && (c - range->first) % range->step == 0) {
    append_code_point(out, static_cast<char32_t>(static_cast<int64_t>(c) + range->delta));
    return;
  }
  const auto* text = std::lower_bound(texts.begin(), texts.end(), c,
                                      [](const CaseText& t, char32_t value) { return t.character < value; });
  if (text != texts.end() && text->character == c)
    out += text->text;
  else
    append_code_point(out, c);
}

void append_upper(std::string& out, char32_t c) {
  append_case(out, c, kUpperRanges, kUpperTexts);
}
void append_title(std::string& out, char32_t c) {
  append_case(out, c, kTitleRanges, kTitleTexts);
}

size_t start_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) begin--;
  return begin;
}

// Python writes a sigma that ends a word in its final form; case-ignorable characters are looked through.
bool is_final_sigma(std::string_view text, size_t begin, size_t end) {
  bool after_cased = false;
  while (begin > 0) {
    begin = start_before(text, begin);
    size_t next = begin;
    const char32_t c = next_code_point(text, next);
    if (has(c, kCaseIgnorable)) continue;
    after_cased = has(c, kCased);
    break;
  }
  if (!after_cased) return false;
  while (end < text.size()) {
    const char32_t c = next_code_point(text, end);
    if (has(c, kCaseIgnorable)) continue;
    return !has(c, kCased);
  }
  return true;
}

void append_lower(std::string& out, std::string_view text, size_t begin, size_t end, char32_t c) {
  if (c == U'Σ')
    append_code_point(out, is_final_sigma(text, begin, end) ? U'ς' : U'σ');
  else
    append_case(out, c, kLowerRanges, kLowerTexts);
}

}  // namespace

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
}

bool is_valid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t size = first < 0x80   ? 1
                        : first < 0xC2 ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
    if (size == 0 || i + size > text.size()) return false;
    for (size_t k = 1; k < size; k++)
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    size_t next = i;
    const char32_t c = next_code_point(text, next);
    // Neither a longer form than needed, nor half of a surrogate pair, nor past the last character.
    if ((size == 3 && (c < 0x800 || (c >= 0xD800 && c < 0xE000))) ||
        (size == 4 && (c < 0x10000 || c > 0x10FFFF)))
      return false;
    i += size;
  }
  return true;
}

int64_t count_code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

size_t byte_offset(std::string_view text, int64_t index) {
  size_t i = 0;
  while (i < text.size() && index > 0) {
    i++;
    while (i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) i++;
    index--;
  }
  return i;
}

char32_t next_code_point(std::string_view text, size_t& position) {
  const auto first = static_cast<unsigned char>(text[position++]);
  if (first < 0x80) return first;
  char32_t c = first >= 0xF0 ? first & 0x07 : first >= 0xE0 ? first & 0x0F : first & 0x1F;
  while (position < text.size() && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80)
    c = (c << 6) | (static_cast<unsigned char>(text[position++]) & 0x3F);
  return c;
}

void append_code_point(std::string& text, char32_t c) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = 0xFFFD;
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | (c >> 6));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | (c >> 12));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | (c >> 18));
    text += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  }
}

std::vector<std::string_view> code_points(std::string_view text) {
  std::vector<std::string_view> parts;
  parts.reserve(text.size());
  size_t i = 0;
  while (i < text.size()) {
    const size_t begin = i;
    next_code_point(text, i);
    parts.push_back(text.substr(begin, i - begin));
  }
  return parts;
}

bool is_space(char32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
  return has(c, kSpace);
}
bool is_line_break(char32_t c) {
  return has(c, kLineBreak);
}
bool is_alphabetic(char32_t c) {
  return has(c, kAlpha);
}
bool is_decimal(char32_t c) {
  return has(c, kDecimal);
}
bool is_digit(char32_t c) {
  return has(c, kDigit);
}
bool is_numeric(char32_t c) {
  return has(c, kNumeric);
}
bool is_alphanumeric(char32_t c) {
  return has(c, kAlpha | kDecimal | kDigit | kNumeric);
}
bool is_upper(char32_t c) {
  return has(c, kUpper);
}
bool is_lower(char32_t c) {
  return has(c, kLower);
}
bool is_title(char32_t c) {
  return has(c, kTitle);
}
bool is_printable(char32_t c) {
  return has(c, kPrintable);
}
bool starts_identifier(char32_t c) {
  return has(c, kIdStart);
}
bool continues_identifier(char32_t c) {
  return has(c, kIdContinue);
}

int decimal_value(char32_t c) {
  const auto* after = std::upper_bound(kZeros.begin(), kZeros.end(), c);
  if (after == kZeros.begin() || c - *std::prev(after) > 9) return -1;
  return static_cast<int>(c - *std::prev(after));
}

const char* html_entity(std::string_view name) {
  const auto* at = std::lower_bound(
      kHtmlEntities.begin(), kHtmlEntities.end(), name,
      [](const HtmlEntity& e, std::string_view value) { return std::string_view(e.name) < value; });
  return at != kHtmlEntities.end() && name == at->name ? at->text : nullptr;
}

// Changing the case of a character takes far longer than copying it.
static void spend_characters(std::string_view text) {
  spend(static_cast<int64_t>(text.size()) / 4);
}

std::string to_upper(std::string_view text) {
  spend_characters(text);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) append_upper(out, next_code_point(text, i));
  return out;
}

std::string to_lower(std::string_view text) {
  spend_characters(text);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = next_code_point(text, i);
    append_lower(out, text, begin, i, c);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  spend_characters(text);
  if (text.empty()) return {};
  std::string out;
  size_t i = 0;
  append_title(out, next_code_point(text, i));
  while (i < text.size()) {
    const size_t begin = i;
    const char32_t c = next_code_point(text, i);
    append_lower(out, text, begin, i, c);
  }
  return out;
}

std::string title_case(std::string_view text) {
  spend_characters(text);
  std::string out;
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = next_code_point(text, i);
    if (in_word)
      append_lower(out, text, begin, i, c);
    else
      append_title(out, c);
    in_word = has(c, kCased);
  }
  return out;
}

std::string case_fold(std::string_view text) {
  spend_characters(text);
  std::string out;
  for (size_t i = 0; i < text.size();) append_case(out, next_code_point(text, i), kFoldRanges, kFoldTexts);
  return out;
}

std::string swap_case(std::string_view text) {
  spend_characters(text);
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = next_code_point(text, i);
    if (is_upper(c))
      append_lower(out, text, begin, i, c);
    else if (is_lower(c))
      append_upper(out, c);
    else
      append_code_point(out, c);
  }
  return out;
}

std::string_view strip(std::string_view text, std::string_view chars, bool left, bool right) {
  const auto stripped = [&](size_t begin, size_t end) {
    if (chars.empty()) return is_space(next_code_point(text, begin));
    return chars.find(text.substr(begin, end - begin)) != std::string_view::npos;
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    size_t next = begin;
    next_code_point(text, next);
    if (!stripped(begin, next)) break;
    begin = next;
  }
  while (right && end > begin) {
    size_t last = end - 1;
    while (last > begin && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) last--;
    if (!stripped(last, end)) break;
    end = last;
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t end = i;
    const char32_t c = next_code_point(text, i);
    if (!is_line_break(c)) continue;
    if (c == '\r' && i < text.size() && text[i] == '\n') i++;
    lines.push_back(text.substr(begin, (keep_ends ? i : end) - begin));
    begin = i;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::vector<std::string_view> split_blanks(std::string_view text, int64_t max_splits, bool from_right) {
  std::vector<std::string_view> words;
  if (from_right) {
    text = strip(text, "", false, true);
    while (!text.empty()) {
      if (max_splits >= 0 && static_cast<int64_t>(words.size()) >= max_splits) {
        words.push_back(text);
        break;
      }
      size_t begin = text.size();
      while (begin > 0) {
        size_t last = begin - 1;
        while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) last--;
        size_t at = last;
        if (is_space(next_code_point(text, at))) break;
        begin = last;
      }
      words.push_back(text.substr(begin));
      text = strip(text.substr(0, begin), "", false, true);
    }
    std::reverse(words.begin(), words.end());
    return words;
  }
  text = strip(text, "", true, false);
  while (!text.empty()) {
    if (max_splits >= 0 && static_cast<int64_t>(words.size()) >= max_splits) {
      words.push_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      size_t next = end;
      if (is_space(next_code_point(text, next))) break;
      end = next;
    }
    words.push_back(text.substr(0, end));
    text = strip(text.substr(end), "", true, false);
  }
  return words;
}

}  // namespace serval::jinja
