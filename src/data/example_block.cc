#include "data/example_block.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace serval {

// Trained tokens but for the first one, a word of bits at a time.
int64_t ExampleBlock::labels(int64_t example) const {
  const auto begin = static_cast<uint64_t>(start(example)) + 1,
             end = static_cast<uint64_t>(start(example + 1));
  int64_t count = 0;
  for (uint64_t at = begin; at < end;) {
    const uint64_t bits = std::min(end - at, 64 - at % 64);
    const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    count += std::popcount(trained_[at / 64] >> (at % 64) & mask);
    at += bits;
  }
  return count;
}

float ExampleBlock::weight(int64_t example, int64_t token) const {
  const auto after = std::upper_bound(weights_.begin(), weights_.end(), start(example) + token,
                                      [](int64_t at, const WeightRun& run) { return at < run.token; });
  return after == weights_.begin() ? 1.0f : (after - 1)->weight;
}

void ExampleBlock::add(std::span<const int32_t> ids, const std::vector<bool>& trained,
                       std::span<const float> weights) {
  SERVAL_CHECK(ids.size() == trained.size() && (weights.empty() || weights.size() == ids.size()));
  SERVAL_CHECK(own_value_starts_.empty() || static_cast<int64_t>(own_value_starts_.size()) == size() + 1,
               "a document without values among others that have some");
  const auto begin = own_ids_.size();
  own_ids_.insert(own_ids_.end(), ids.begin(), ids.end());
  own_starts_.push_back(static_cast<int64_t>(own_ids_.size()));
  own_trained_.resize((own_ids_.size() + 63) / 64, 0);
  for (size_t i = 0; i < trained.size(); ++i) {
    if (!trained[i]) continue;
    own_trained_[(begin + i) / 64] |= uint64_t{1} << ((begin + i) % 64);
    num_labels_ += i > 0;
    const float weight = weights.empty() ? 1.0f : weights[i];
    if (weight != (own_weights_.empty() ? 1.0f : own_weights_.back().weight))
      own_weights_.push_back({static_cast<int64_t>(begin + i), weight});
  }
  ids_ = own_ids_;
  trained_ = own_trained_;
  starts_ = own_starts_;
  weights_ = own_weights_;
  in_memory_bytes_ = static_cast<int64_t>(ids_.size_bytes() + trained_.size_bytes() + starts_.size_bytes() +
                                          weights_.size_bytes());
}

void ExampleBlock::add_values(std::span<const double> values) {
  if (own_value_starts_.empty()) own_value_starts_.push_back(0);
  SERVAL_CHECK(static_cast<int64_t>(own_value_starts_.size()) == size(), "values of no document");
  own_values_.insert(own_values_.end(), values.begin(), values.end());
  own_value_starts_.push_back(static_cast<int64_t>(own_values_.size()));
  values_ = own_values_;
  value_starts_ = own_value_starts_;
  in_memory_bytes_ += static_cast<int64_t>(values.size_bytes() + sizeof(int64_t));
}

void ExampleBlock::forget() const {
  file_.forget(0, file_.bytes().size());
}

}  // namespace serval
