// Tables made by tests/reference/make_python_text_tables.py; src/text/jinja/unicode.h is how they are read.
#pragma once
#include <array>
#include <cstdint>

namespace serval::jinja {

enum CharacterFlag : uint16_t {
  kSpace = 1 << 0,
  kLineBreak = 1 << 1,
  kAlpha = 1 << 2,
  kDecimal = 1 << 3,
  kDigit = 1 << 4,
  kNumeric = 1 << 5,
  kUpper = 1 << 6,
  kLower = 1 << 7,
  kTitle = 1 << 8,
  kPrintable = 1 << 9,
  kIdStart = 1 << 10,
  kIdContinue = 1 << 11,
  kCased = 1 << 12,
  kCaseIgnorable = 1 << 13,
};
struct CharacterRange {
  char32_t first;  // up to the next range
  uint16_t flags;
};
struct CaseRange {
  char32_t first, last;
  uint32_t step;
  int32_t delta;
};
struct CaseText {
  char32_t character;
  const char* text;
};
struct HtmlEntity {
  const char *name, *text;
};

extern const std::array<CharacterRange, 3861> kCharacterRanges;
extern const std::array<char32_t, 66> kZeros;
extern const std::array<CaseRange, 194> kUpperRanges;
extern const std::array<CaseText, 102> kUpperTexts;
extern const std::array<CaseRange, 181> kLowerRanges;
extern const std::array<CaseText, 1> kLowerTexts;
extern const std::array<CaseRange, 196> kTitleRanges;
extern const std::array<CaseText, 48> kTitleTexts;
extern const std::array<CaseRange, 195> kFoldRanges;
extern const std::array<CaseText, 104> kFoldTexts;
extern const std::array<HtmlEntity, 2231> kHtmlEntities;

}  // namespace serval::jinja
