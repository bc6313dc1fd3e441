#include "text/tokenizer/byte_trie.h"

#include <algorithm>

namespace serval {

ByteTrie::ByteTrie(std::vector<Key> keys) {
  // The last of equal keys is the one that stays.
  std::stable_sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) { return a.first < b.first; });
  size_t kept = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].first.empty()) continue;
    if (kept > 0 && keys[kept - 1].first == keys[i].first) --kept;
    keys[kept++] = keys[i];
  }
  keys.resize(kept);

  // Node n of level d stands for the keys [begin, end) that share their first d bytes.
  struct Range {
    size_t begin, end;
  };
  std::vector<Range> level = {{0, keys.size()}}, next;
  labels_.push_back(0);
  values_.push_back(-1);
  for (size_t depth = 0; !level.empty(); ++depth) {
    next.clear();
    for (const Range& range : level) {
      first_child_.push_back(static_cast<uint32_t>(labels_.size()));
      size_t at = range.begin;
      // A key that ends here is the first of its range.
      while (at < range.end && keys[at].first.size() == depth) ++at;
      while (at < range.end) {
        const char label = keys[at].first[depth];
        const size_t begin = at;
        while (at < range.end && keys[at].first[depth] == label) ++at;
        if (depth == 0) root_[static_cast<unsigned char>(label)] = static_cast<uint32_t>(labels_.size());
        labels_.push_back(static_cast<unsigned char>(label));
        values_.push_back(keys[begin].first.size() == depth + 1 ? keys[begin].second : -1);
        next.push_back({begin, at});
      }
    }
    level.swap(next);
  }
  first_child_.push_back(static_cast<uint32_t>(labels_.size()));
}

}  // namespace serval
