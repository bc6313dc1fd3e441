// Unicode normalization forms that keep track of which characters were replaced.
#include <algorithm>

#include "text/tokenizer/characters.h"
#include "text/tokenizer/normalizer.h"

namespace serval {
namespace {

// Hangul syllables are composed by arithmetic (The Unicode Standard, 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28;
constexpr char32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;

struct Element {
  ChangedCharacter changed;
  int combining_class;
};

// Marks are put in the order of their classes, from one starter to the next.
std::vector<Element> decompose(std::string_view text, bool compatibility) {
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
  const auto put = [&](char32_t c, int32_t change) {
    const int combining_class = character_record(c).combining_class;
    if (combining_class == 0) sort_marks();
    elements.push_back({{c, change}, combining_class});
  };
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_character(text, at);
    if (c < 0x80) {
      put(c, 0);
    } else if (const char32_t index = c - kSyllables; index < kSyllableCount) {
      put(kLeads + index / (kVowelCount * kTailCount), 0);
      put(kVowels + index / kTailCount % kVowelCount, 1);
      if (index % kTailCount != 0) put(kTails + index % kTailCount, 1);
    } else if (const auto parts = unicode::decomposition(c, compatibility); !parts.empty()) {
      for (size_t i = 0; i < parts.size(); ++i) put(parts[i], i > 0 ? 1 : 0);
    } else {
      put(c, 0);
    }
  }
  sort_marks();
  return elements;
}

// The one character that a pair composes to, or 0.
char32_t compose_pair(char32_t a, char32_t b) {
  if (b < 0x300) return 0;
  if (a - kLeads < kLeadCount && b - kVowels < kVowelCount)
    return kSyllables + ((a - kLeads) * kVowelCount + (b - kVowels)) * kTailCount;
  if (a - kSyllables < kSyllableCount && (a - kSyllables) % kTailCount == 0 &&
      b - kTails - 1 < kTailCount - 1)
    return a + (b - kTails);
  return unicode::composition(a, b);
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

// Set where the form leaves a character alone, whatever stands beside it.
uint32_t stable_flag(UnicodeForm form) {
  switch (form) {
    case UnicodeForm::kNfc:
      return unicode::kNfcStable;
    case UnicodeForm::kNfd:
      return unicode::kNfdStable;
    case UnicodeForm::kNfkc:
      return unicode::kNfkcStable;
    default:
      return unicode::kNfkdStable;
  }
}

}  // namespace

std::vector<ChangedCharacter> unicode_form(std::string_view text, UnicodeForm form) {
  const bool compatibility = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  const bool composes = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  const uint32_t stable = stable_flag(form);
  bool same = true;
  for (size_t at = 0; at < text.size() && same;) {
    const char32_t c = next_character(text, at);
    same = c < 0x80 || (character_record(c).flags & stable) != 0;
  }
  if (same) return {};
  const std::vector<Element> elements = decompose(text, compatibility);
  if (composes) return compose(elements);
  std::vector<ChangedCharacter> out;
  out.reserve(elements.size());
  for (const Element& element : elements) out.push_back(element.changed);
  return out;
}

}  // namespace serval
