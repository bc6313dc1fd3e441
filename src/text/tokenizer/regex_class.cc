#include "text/tokenizer/regex_class.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace serval {
namespace {

using namespace unicode;

constexpr std::string_view kShortNames[] = {"lu", "ll", "lt", "lm", "lo", "mn", "mc", "me", "nd", "nl",
                                            "no", "pc", "pd", "ps", "pe", "pi", "pf", "po", "sm", "sc",
                                            "sk", "so", "zs", "zl", "zp", "cc", "cf", "co", "cn"};
constexpr std::string_view kLongNames[] = {
    "uppercaseletter",    "lowercaseletter",  "titlecaseletter",  "modifierletter",
    "otherletter",        "nonspacingmark",   "spacingmark",      "enclosingmark",
    "decimalnumber",      "letternumber",     "othernumber",      "connectorpunctuation",
    "dashpunctuation",    "openpunctuation",  "closepunctuation", "initialpunctuation",
    "finalpunctuation",   "otherpunctuation", "mathsymbol",       "currencysymbol",
    "modifiersymbol",     "othersymbol",      "spaceseparator",   "lineseparator",
    "paragraphseparator", "control",          "format",           "privateuse",
    "unassigned"};
constexpr std::pair<std::string_view, char> kGroupNames[] = {
    {"letter", 'l'}, {"mark", 'm'},      {"number", 'n'}, {"punctuation", 'p'},
    {"symbol", 's'}, {"separator", 'z'}, {"other", 'c'}};
constexpr std::pair<std::string_view, uint32_t> kPosixNames[] = {
    {"alnum", kPosixAlnum},      {"alpha", kPosixAlpha}, {"alphabetic", kPosixAlpha},
    {"blank", kPosixBlank},      {"cntrl", kPosixCntrl}, {"digit", kPosixDigit},
    {"graph", kPosixGraph},      {"lower", kPosixLower}, {"lowercase", kPosixLower},
    {"print", kPosixPrint},      {"punct", kPosixPunct}, {"space", kPosixSpace},
    {"whitespace", kPosixSpace}, {"upper", kPosixUpper}, {"uppercase", kPosixUpper},
    {"xdigit", kPosixXdigit},    {"word", kPosixWord}};

constexpr uint32_t bit(uint8_t category) {
  return 1u << category;
}
constexpr uint32_t kWordCategories = bit(kCategoryLu) | bit(kCategoryLl) | bit(kCategoryLt) |
                                     bit(kCategoryLm) | bit(kCategoryLo) | bit(kCategoryMn) |
                                     bit(kCategoryMc) | bit(kCategoryMe) | bit(kCategoryNd) |
                                     bit(kCategoryNl) | bit(kCategoryPc);

bool contains(const RegexClass& regex_class, char32_t c) {
  const CharacterRecord& record = character_record(c);
  if (regex_class.categories != 0) return (regex_class.categories & bit(record.category)) != 0;
  if (regex_class.flag != 0) return (record.flags & regex_class.flag) != 0;
  return std::any_of(regex_class.ranges.begin(), regex_class.ranges.end(),
                     [c](const CharacterRange& range) { return c >= range.first && c <= range.last; });
}

void put_range(std::string& out, char32_t first, char32_t last) {
  fmt::format_to(std::back_inserter(out), "\\x{{{:X}}}", static_cast<uint32_t>(first));
  if (first != last) fmt::format_to(std::back_inserter(out), "-\\x{{{:X}}}", static_cast<uint32_t>(last));
}

// The ranges of all characters for which `holds`. Surrogates are no characters, and PCRE2 refuses them.
template <class Holds>
std::string explicit_ranges(const Holds& holds) {
  std::string out;
  constexpr char32_t kNone = 0xFFFFFFFF;
  char32_t first = kNone;
  for (char32_t c = 0; c <= 0x110000; ++c) {
    const bool member = c < 0x110000 && !(c >= 0xD800 && c < 0xE000) && holds(c);
    if (member && first == kNone) first = c;
    if (!member && first != kNone) {
      put_range(out, first, c - 1);
      first = kNone;
    }
  }
  return out;
}

// "" where the categories lost characters since the Unicode of PCRE2.
std::string category_members(uint32_t categories) {
  std::string out;
  for (size_t i = 0; i < std::size(kShortNames); ++i) {
    if ((categories & (1u << i)) == 0) continue;
    std::string name(kShortNames[i]);
    name[0] = static_cast<char>(name[0] - 'a' + 'A');
    out += "\\p{" + name + "}";
  }
  for (const CategoryChange& change : category_changes()) {
    const bool before = (categories & bit(change.old_category)) != 0;
    const bool now = (categories & bit(change.category)) != 0;
    if (before && !now) return "";
    if (now && !before) put_range(out, change.first, change.last);
  }
  return out;
}

}  // namespace

std::optional<RegexClass> regex_property(std::string_view name) {
  std::string plain;  // as Oniguruma compares names
  for (const char c : name)
    if (c != ' ' && c != '_' && c != '-') plain += static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
  for (size_t i = 0; i < std::size(kShortNames); ++i)
    if (plain == kShortNames[i] || plain == kLongNames[i]) return RegexClass{.categories = 1u << i};
  for (const auto& [group, letter] : kGroupNames) {
    if (plain != group && !(plain.size() == 1 && plain[0] == letter)) continue;
    uint32_t categories = 0;
    for (size_t i = 0; i < std::size(kShortNames); ++i)
      if (kShortNames[i][0] == letter) categories |= 1u << i;
    return RegexClass{.categories = categories};
  }
  if (plain == "lc" || plain == "casedletter")
    return RegexClass{.categories = bit(kCategoryLu) | bit(kCategoryLl) | bit(kCategoryLt)};
  for (const auto& [posix, flag] : kPosixNames)
    if (plain == posix) return RegexClass{.flag = flag};
  if (const auto ranges = script_ranges(plain); !ranges.empty()) return RegexClass{.ranges = ranges};
  return std::nullopt;
}

std::string regex_members(const RegexClass& regex_class, bool negated) {
  if (!negated && regex_class.categories != 0)
    if (std::string members = category_members(regex_class.categories); !members.empty()) return members;
  if (!negated && (regex_class.flag == kRegexWord || regex_class.flag == kPosixWord)) {
    // Mostly categories, which PCRE2 finds faster than ranges.
    if (std::string members = category_members(kWordCategories); !members.empty())
      return members + explicit_ranges([&](char32_t c) {
               const CharacterRecord& record = character_record(c);
               return (record.flags & regex_class.flag) != 0 && (kWordCategories & bit(record.category)) == 0;
             });
  }
  return explicit_ranges([&](char32_t c) { return contains(regex_class, c) != negated; });
}

}  // namespace serval
