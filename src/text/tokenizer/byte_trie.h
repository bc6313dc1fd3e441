// A set of byte strings that answers which of them start at a place of a text: a tree in level order, whose
// children lie side by side. Building is linear in the bytes of the sorted keys; a lookup takes one short
// scan a byte.
//
//   ByteTrie trie({{"ab", 7}, {"abc", 9}});
//   trie.for_each_prefix("abcd", [](size_t size, int32_t value) { ... });   // (2, 7), (3, 9)
//   trie.longest_prefix("abcd", size);                                      // 9, size 3; -1 where none
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace serval {

class ByteTrie {
 public:
  using Key = std::pair<std::string_view, int32_t>;  // a value must not be negative
  ByteTrie() = default;
  // The texts are not kept. An empty key is ignored; of equal keys the last one counts.
  explicit ByteTrie(std::vector<Key> keys);

  bool empty() const { return values_.size() <= 1; }

  // visit(size, value) for every key that `text` starts with, shortest first.
  template <class Visit>
  void for_each_prefix(std::string_view text, const Visit& visit) const {
    uint32_t node = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      node = child(node, static_cast<unsigned char>(text[at]));
      if (node == 0) return;
      if (values_[node] >= 0) visit(at + 1, values_[node]);
    }
  }
  int32_t longest_prefix(std::string_view text, size_t& size) const {
    int32_t found = -1;
    for_each_prefix(text, [&](size_t matched, int32_t value) {
      size = matched;
      found = value;
    });
    return found;
  }

 private:
  // The root is node 0, so 0 says that there is no such child.
  uint32_t child(uint32_t node, unsigned char byte) const {
    if (node == 0) return root_[byte];
    const uint32_t begin = first_child_[node], count = first_child_[node + 1] - begin;
    if (count == 0) return 0;
    const void* found = std::memchr(labels_.data() + begin, byte, count);
    return found == nullptr
               ? 0
               : static_cast<uint32_t>(static_cast<const unsigned char*>(found) - labels_.data());
  }

  uint32_t root_[256] = {};
  std::vector<unsigned char> labels_;  // of each node: the byte that leads to it
  std::vector<uint32_t> first_child_;  // of each node, and one more
  std::vector<int32_t> values_;        // of each node, or -1
};

}  // namespace serval
