#include "data/packing.h"

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>

#include "base/error.h"

namespace serval {

namespace {

Packing pack_window(std::span<const int64_t> lengths, int64_t capacity) {
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

}  // namespace

Packing pack_best_fit(std::span<const int64_t> lengths, int64_t capacity, int64_t window) {
  const auto count = static_cast<int64_t>(lengths.size());
  if (window <= 0 || window >= count) return pack_window(lengths, capacity);
  Packing result;
  result.starts = {0};
  for (int64_t begin = 0; begin < count; begin += window) {
    const Packing part = pack_window(
        lengths.subspan(static_cast<size_t>(begin), static_cast<size_t>(std::min(window, count - begin))),
        capacity);
    for (int64_t bin = 0; bin < part.num_bins(); ++bin) {
      for (const int64_t document : part.documents(bin)) result.members.push_back(begin + document);
      result.starts.push_back(static_cast<int64_t>(result.members.size()));
    }
  }
  const double total = static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), int64_t{0}));
  result.utilisation = total / (static_cast<double>(result.num_bins()) * static_cast<double>(capacity));
  return result;
}

PieceSink::PieceSink(ExampleSink& next, int64_t capacity, bool wrapped)
    : next_(next), capacity_(static_cast<size_t>(capacity)), wrapped_(wrapped) {
  SERVAL_CHECK(capacity > 1);
}

void PieceSink::add(std::span<const int32_t> ids, const std::vector<bool>& trained,
                    std::span<const float> weights) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!weights.empty() && weights_.empty()) weights_.assign(ids_.size(), 1.0f);
    ids_.push_back(ids[i]);
    trained_.push_back(trained[i]);
    if (!weights_.empty() || !weights.empty()) weights_.push_back(weights.empty() ? 1.0f : weights[i]);
    if (ids_.size() == capacity_) finish();
  }
  if (!wrapped_) finish();
}

void PieceSink::finish() {
  // The first token of a piece is no label.
  if (!trained_.empty() && std::find(trained_.begin() + 1, trained_.end(), true) != trained_.end())
    next_.add(ids_, trained_, weights_);
  ids_.clear();
  trained_.clear();
  weights_.clear();
}

}  // namespace serval
