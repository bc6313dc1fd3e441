// SentencePiece's precompiled normalization rules: a double-array trie of byte strings, each of which stands
// for another string. The bytes come from a file, and no number in them is trusted.
//
//   Charsmap map = Charsmap::from_bytes(bytes, "tokenizer.json: normalizer");
//   map.longest("\xEF\xBD\x81" "b", size);   // "a", size 3
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace serval {

class Charsmap {
 public:
  Charsmap() = default;  // no rules
  // Layout: u32 size of the trie in bytes, the trie, strings that end in a zero byte.
  static Charsmap from_bytes(std::string_view bytes, const std::string& where);
  bool empty() const { return units_.empty(); }

  // What the longest rule that `text` starts with makes of its first `size` bytes.
  std::optional<std::string_view> longest(std::string_view text, size_t& size) const;
  // What the shortest one makes; the `tokenizers` library applies that to a whole grapheme.
  std::optional<std::string_view> shortest(std::string_view text) const;

 private:
  // Calls visit(size, place of the replacement) for each rule that matches, shortest first, until it is
  // false.
  template <class Visit>
  void for_each_rule(std::string_view text, const Visit& visit) const;
  std::string_view replacement(uint32_t at) const;

  std::vector<uint32_t> units_;
  std::string strings_;
};

}  // namespace serval
