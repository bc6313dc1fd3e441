// Unicode normalization forms that keep track of which characters were replaced. The tables are utf8proc's.
#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "text/tokenizer/characters.h"
#include "text/tokenizer/normalizer.h"

namespace serval {
namespace {

struct Element {
  ChangedCharacter changed;
  int combining_class;
};

int combining_class(char32_t c) {
  return c < 0x300 ? 0 : utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

bool is_jamo(char32_t c) {
  return c >= 0x1100 && c <= 0x11FF;
}

// No form of the given kind changes this character, whatever stands beside it.
bool is_inert(char32_t c, bool compatibility, bool composes) {
  if (c < 0x80) return true;
  if (composes && !compatibility && c < 0x300) return true;
  if (c >= 0xAC00 && c <= 0xD7A3) return composes;
  if (is_jamo(c)) return !composes;
  constexpr uint16_t kNone = 0xFFFF;
  const utf8proc_property_t* property = utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
  return property->combining_class == 0 && property->decomp_seqindex == kNone &&
         (!composes || property->comb_index == kNone);
}

// Marks are put in the order of their classes, from one starter to the next.
std::vector<Element> decompose(std::string_view text, bool compatibility) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE |
                                                      (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<Element> elements;
  elements.reserve(text.size());
  size_t unsorted = 0;
  const auto sort_marks = [&] {
    if (elements.size() - unsorted > 1)
      std::stable_sort(
          elements.begin() + static_cast<ptrdiff_t>(unsorted), elements.end(),
          [](const Element& a, const Element& b) { return a.combining_class < b.combining_class; });
    unsorted = elements.size();
  };
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_character(text, at);
    std::array<utf8proc_int32_t, 32> parts{static_cast<utf8proc_int32_t>(c)};
    int boundary = 0;
    utf8proc_ssize_t count = c < 0x80
                                 ? 1
                                 : utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(),
                                                           parts.size(), options, &boundary);
    if (count < 1 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      parts[0] = static_cast<utf8proc_int32_t>(c);
      count = 1;
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      const auto part = static_cast<char32_t>(parts[static_cast<size_t>(i)]);
      const int part_class = combining_class(part);
      if (part_class == 0) sort_marks();
      elements.push_back({{part, i > 0 ? 1 : 0}, part_class});
    }
  }
  sort_marks();
  return elements;
}

// The one character that a pair composes to, or 0.
char32_t compose_pair(char32_t a, char32_t b) {
  if (b < 0x300) return 0;
  std::array<utf8proc_int32_t, 3> pair{static_cast<utf8proc_int32_t>(a), static_cast<utf8proc_int32_t>(b), 0};
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  return utf8proc_normalize_utf32(pair.data(), 2, options) == 1 ? static_cast<char32_t>(pair[0]) : 0;
}

std::vector<ChangedCharacter> compose(const std::vector<Element>& elements) {
  std::vector<ChangedCharacter> out;
  out.reserve(elements.size());
  constexpr size_t kNone = static_cast<size_t>(-1);
  size_t starter = kNone;
  int last_class = 0;
  for (const Element& element : elements) {
    const int its_class = element.combining_class;
    if (starter != kNone) {
      // A mark is blocked by one of its own or a higher class, a starter by anything between.
      const bool adjacent = out.size() == starter + 1;
      const bool blocked = !adjacent && (its_class == 0 || last_class >= its_class);
      if (!blocked) {
        if (const char32_t composed = compose_pair(out[starter].character, element.changed.character)) {
          out[starter] = {composed, out[starter].change + element.changed.change - 1};
          continue;
        }
      }
    }
    if (its_class == 0) starter = out.size();
    last_class = its_class;
    out.push_back(element.changed);
  }
  return out;
}

}  // namespace

std::vector<ChangedCharacter> unicode_form(std::string_view text, UnicodeForm form) {
  const bool compatibility = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  const bool composes = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  bool inert = true;
  for (size_t at = 0; at < text.size() && inert;)
    inert = is_inert(next_character(text, at), compatibility, composes);
  if (inert) return {};
  const std::vector<Element> elements = decompose(text, compatibility);
  if (composes) return compose(elements);
  std::vector<ChangedCharacter> out;
  out.reserve(elements.size());
  for (const Element& element : elements) out.push_back(element.changed);
  return out;
}

}  // namespace serval
