// What the parts of a tokenizer.json take each character for. The tables are generated from the reference
// implementation (tests/reference/make_unicode_tables.py), whose parts follow different versions of Unicode.
//
//   character_record(U'x').flags & unicode::kSpace      // White_Space
//   character_record(U'x').category == unicode::kCategoryLl
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace serval {

struct CharacterRecord {
  uint8_t category;         // of regular expressions: unicode::kCategoryLu and so on
  uint8_t combining_class;  // of the normalization forms
  uint8_t script;           // of the pre-tokenizer UnicodeScripts: 0 goes with any neighbour
  uint32_t flags;           // unicode::kSpace and so on
};
// `old_category` is that of Unicode 14.
struct CategoryChange {
  char32_t first, last;
  uint8_t old_category, category;
};
struct CharacterRange {
  char32_t first, last;
};
struct ScriptRanges {
  std::string_view name;
  uint16_t first, count;  // of kScriptRanges
};
struct Decomposition {
  char32_t character;
  uint16_t first;
  uint8_t count;
};
struct Composition {
  char32_t first, second, composed;
};
struct LowercaseRun {
  char32_t first, last;
  uint8_t step;
  int32_t delta;
};

namespace unicode {

#include "text/tokenizer/unicode_constants.inc"

extern const uint16_t kBlockOf[];
extern const uint16_t kRecordOf[];
extern const CharacterRecord kRecords[];

std::span<const CategoryChange> category_changes();
// Of a script that regular expressions name, lower case without "_"; empty where there is none.
std::span<const CharacterRange> script_ranges(std::string_view name);
// The full decomposition; empty where the character stays. Hangul syllables are not listed.
std::span<const char32_t> decomposition(char32_t character, bool compatibility);
// The one character that a pair composes to, or 0. Hangul is not listed.
char32_t composition(char32_t first, char32_t second);
// Of U+0130 its first character alone.
char32_t to_lower(char32_t character);

}  // namespace unicode

// `c` must be below 0x110000.
inline const CharacterRecord& character_record(char32_t c) {
  return unicode::kRecords[unicode::kRecordOf[size_t{unicode::kBlockOf[c >> 7]} * 128 + (c & 127)]];
}

}  // namespace serval
