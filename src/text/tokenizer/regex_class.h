// Character classes of Oniguruma as the inside of a PCRE2 bracket expression. The two know different versions
// of Unicode, so what PCRE2 does not know yet is spelled out.
//
//   regex_property("Lu");                       // std::nullopt for a name that neither table has
//   regex_members(*regex_property("Lu"), /*negated=*/false);   // "\\p{Lu}\\x{1C89}..."
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "text/tokenizer/unicode.h"

namespace serval {

// One of the three says what is in it.
struct RegexClass {
  uint32_t categories = 0;  // bits 1 << unicode::kCategoryLu and so on
  uint32_t flag = 0;        // of CharacterRecord
  std::span<const CharacterRange> ranges{};
};

// A name as it stands in \p{...}: a general category, a script, a POSIX class.
std::optional<RegexClass> regex_property(std::string_view name);
std::string regex_members(const RegexClass& regex_class, bool negated);

}  // namespace serval
