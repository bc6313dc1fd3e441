#include "text/tokenizer/unicode.h"

#include <algorithm>
#include <string>
#include <tuple>

namespace serval::unicode {

#include "text/tokenizer/unicode_data.inc"

static_assert(kBlock == 128);

std::span<const CategoryChange> category_changes() {
  return kCategoryChanges;
}

std::span<const CharacterRange> script_ranges(std::string_view name) {
  for (const ScriptRanges& script : kScripts) {
    const bool same =
        script.name.size() == name.size() && std::equal(name.begin(), name.end(), script.name.begin(),
                                                        [](char a, char b) { return a == (b | 0x20); });
    if (same) return std::span(kScriptRanges).subspan(script.first, script.count);
  }
  return {};
}

namespace {

std::span<const char32_t> find(std::span<const Decomposition> table, char32_t character) {
  const auto found = std::lower_bound(table.begin(), table.end(), character,
                                      [](const Decomposition& d, char32_t c) { return d.character < c; });
  if (found == table.end() || found->character != character) return {};
  return std::span(kDecomposed).subspan(found->first, found->count);
}

}  // namespace

std::span<const char32_t> decomposition(char32_t character, bool compatibility) {
  // The second table has only what differs from the first.
  if (compatibility)
    if (const auto found = find(kCompatible, character); !found.empty()) return found;
  return find(kCanonical, character);
}

char32_t composition(char32_t first, char32_t second) {
  const auto found = std::lower_bound(
      std::begin(kCompositions), std::end(kCompositions), std::tie(first, second),
      [](const Composition& c, const auto& pair) { return std::tie(c.first, c.second) < pair; });
  const bool same = found != std::end(kCompositions) && found->first == first && found->second == second;
  return same ? found->composed : 0;
}

char32_t to_lower(char32_t character) {
  if (character == 0x130) return U'i';
  const auto found = std::upper_bound(std::begin(kLowercaseRuns), std::end(kLowercaseRuns), character,
                                      [](char32_t c, const LowercaseRun& run) { return c < run.first; });
  if (found == std::begin(kLowercaseRuns)) return character;
  const LowercaseRun& run = *std::prev(found);
  if (character > run.last || (character - run.first) % run.step != 0) return character;
  return static_cast<char32_t>(static_cast<int32_t>(character) + run.delta);
}

}  // namespace serval::unicode
