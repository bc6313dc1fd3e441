#include "data/packing.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>

#include "base/error.h"

namespace serval {
namespace {

// Bins of one room, made one after the other: they are filled alike, so that one run stands for them all.
struct Run {
  int64_t first = 0, count = 0;
};

// Documents of one length, as they come in the order of lengths: `each` to every bin of the run.
struct Placement {
  Run bins;
  int64_t each = 0;
};

// Where documents of each length go. A length splits one run at most, so that there are a few runs a length,
// however many documents there are.
class BestFit {
 public:
  BestFit(int64_t capacity, const std::string& directory) : capacity_(capacity), placements_(directory) {}

  // Lengths come in descending order.
  void add(int64_t length, int64_t count) {
    while (count > 0) {
      const auto best = runs_by_room_.lower_bound(length);
      if (best == runs_by_room_.end()) {
        const int64_t each = capacity_ / length;
        const Run fresh{bins_, (count + each - 1) / each};
        bins_ += fresh.count;
        count = fill(fresh, capacity_, length, count);
        continue;
      }
      const int64_t room = best->first;
      const Run run = best->second.front();
      best->second.pop_front();
      if (best->second.empty()) runs_by_room_.erase(best);
      count = fill(run, room, length, count);
    }
  }

  int64_t bins() const { return bins_; }
  const DiskVector<Placement>& placements() const { return placements_; }

 private:
  // A bin that has room for more of one length is still the one with the least room for the next of them, so
  // it is filled before the next bin is. Returns how many documents are left.
  int64_t fill(const Run& run, int64_t room, int64_t length, int64_t count) {
    const int64_t each = room / length, full = std::min(run.count, count / each);
    place({run.first, full}, room, length, each);
    count -= full * each;
    if (full == run.count) return count;
    const int64_t rest = count;  // less than `each`, into the next bin
    place({run.first + full, rest > 0 ? 1 : 0}, room, length, rest);
    const int64_t used = full + (rest > 0 ? 1 : 0);
    // The oldest of this room, so they stand before the others.
    if (used < run.count) runs_by_room_[room].push_front({run.first + used, run.count - used});
    return 0;
  }

  void place(const Run& run, int64_t room, int64_t length, int64_t each) {
    if (run.count == 0) return;
    placements_.push_back({run, each});
    if (room > each * length) runs_by_room_[room - each * length].push_back(run);
  }

  int64_t capacity_, bins_ = 0;
  std::map<int64_t, std::deque<Run>> runs_by_room_;  // the oldest first
  DiskVector<Placement> placements_;
};

struct Window {
  int64_t begin = 0, end = 0;
};

// Appends the window's bins to the result; returns its tokens.
int64_t pack_window(const Window& window, const std::function<int64_t(int64_t)>& length_of, int64_t capacity,
                    const std::string& directory, Packing& result) {
  std::map<int64_t, int64_t, std::greater<>> count_of_length;
  int64_t total = 0;
  for (int64_t document = window.begin; document < window.end; ++document) {
    const int64_t length = length_of(document);
    SERVAL_CHECK(length >= 1 && length <= capacity, "a document of {} tokens in bins of {}", length,
                 capacity);
    ++count_of_length[length];
    total += length;
  }
  BestFit fit(capacity, directory);
  for (const auto& [length, count] : count_of_length) fit.add(length, count);

  // Longest first; of one length, in their order.
  DiskVector<int64_t> order(directory);
  order.resize(static_cast<size_t>(window.end - window.begin));
  int64_t next = 0;
  for (auto& [length, place] : count_of_length) next += std::exchange(place, next);
  for (int64_t document = window.begin; document < window.end; ++document)
    order[static_cast<size_t>(count_of_length.find(length_of(document))->second++)] = document;

  // starts[bin + 1] is at first where the next document of the bin goes: at the end that is where the next
  // bin begins.
  if (result.starts.empty()) result.starts.push_back(0);
  const size_t first_bin = result.starts.size() - 1, first_member = result.members.size();
  const auto bins = static_cast<size_t>(fit.bins());
  result.starts.resize(first_bin + bins + 2);
  int64_t* sizes = result.starts.begin() + first_bin + 2;
  const auto each_bin = [&](auto&& use) {
    for (const Placement& placement : fit.placements())
      for (int64_t i = 0; i < placement.bins.count; ++i)
        use(static_cast<size_t>(placement.bins.first + i), placement.each);
  };
  each_bin([&](size_t bin, int64_t each) { sizes[bin] += each; });
  result.starts[first_bin + 1] = static_cast<int64_t>(first_member);
  for (size_t bin = 0; bin < bins; ++bin) sizes[bin] += sizes[static_cast<std::ptrdiff_t>(bin) - 1];
  result.starts.pop_back();
  result.members.resize(first_member + order.size());
  const int64_t* document = order.begin();
  each_bin([&](size_t bin, int64_t each) {
    int64_t& to = result.starts[first_bin + 1 + bin];
    for (int64_t i = 0; i < each; ++i) result.members[static_cast<size_t>(to++)] = *document++;
  });
  return total;
}

}  // namespace

void Packing::forget() const {
  members.forget();
  starts.forget();
}

Packing pack_best_fit(int64_t count, const std::function<int64_t(int64_t)>& length, int64_t capacity,
                      int64_t window, const std::string& directory) {
  if (window <= 0) window = std::max<int64_t>(count, 1);
  Packing result{DiskVector<int64_t>(directory), DiskVector<int64_t>(directory)};
  int64_t total = 0;
  for (int64_t begin = 0; begin < count; begin += window)
    total +=
        pack_window({begin, begin + std::min(window, count - begin)}, length, capacity, directory, result);
  if (count > 0)
    result.utilisation =
        static_cast<double>(total) / (static_cast<double>(result.num_bins()) * static_cast<double>(capacity));
  return result;
}

Packing pack_best_fit(std::span<const int64_t> lengths, int64_t capacity, int64_t window) {
  return pack_best_fit(
      static_cast<int64_t>(lengths.size()),
      [&](int64_t document) { return lengths[static_cast<size_t>(document)]; }, capacity, window);
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

void PieceSink::add_values(std::span<const double> /*values*/) {
  SERVAL_CHECK(false, "documents with values are not cut into pieces");
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
