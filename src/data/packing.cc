#include "data/packing.h"

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>

#include "base/error.h"

namespace serval {

Packing pack_best_fit(std::span<const int64_t> lengths, int64_t capacity) {
  const size_t count = lengths.size();
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });

  std::map<int64_t, std::deque<size_t>> bins_by_room;  // the oldest bin of one room is filled first
  std::vector<size_t> bin_of(count);
  std::vector<int64_t> bin_sizes;  // documents of each bin
  int64_t total = 0;
  for (const size_t document : order) {
    const int64_t length = lengths[document];
    SERVAL_CHECK(length >= 1 && length <= capacity, "a document of {} tokens in bins of {}", length,
                 capacity);
    total += length;
    size_t bin = bin_sizes.size();
    int64_t room = capacity;
    if (const auto best = bins_by_room.lower_bound(length); best != bins_by_room.end()) {
      room = best->first;
      bin = best->second.front();
      best->second.pop_front();
      if (best->second.empty()) bins_by_room.erase(best);
    } else {
      bin_sizes.push_back(0);
    }
    bin_of[document] = bin;
    ++bin_sizes[bin];
    if (room > length) bins_by_room[room - length].push_back(bin);
  }

  Packing result;
  result.starts.assign(bin_sizes.size() + 1, 0);
  std::partial_sum(bin_sizes.begin(), bin_sizes.end(), result.starts.begin() + 1);
  result.members.resize(count);
  std::vector<int64_t> next(result.starts.begin(), result.starts.end() - 1);
  for (const size_t document : order)
    result.members[static_cast<size_t>(next[bin_of[document]]++)] = static_cast<int64_t>(document);
  if (!bin_sizes.empty())
    result.utilisation =
        static_cast<double>(total) / (static_cast<double>(bin_sizes.size()) * static_cast<double>(capacity));
  return result;
}

}  // namespace serval
