#include "data/examples.h"

#include <algorithm>

#include "base/error.h"

namespace serval {
namespace {

__extension__ using Wide = __int128;

}  // namespace

Examples::Place Examples::find(int64_t example) const {
  SERVAL_CHECK(example >= 0 && example < size_);
  const auto after = std::upper_bound(parts_.begin(), parts_.end(), example,
                                      [](int64_t wanted, const Part& part) { return wanted < part.begin; });
  const Part& part = *(after - 1);
  const int64_t local = example - part.begin;
  return {part.block.get(), part.order.size() > 0 ? part.order(local) : local};
}

bool Examples::weighted() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.block->weighted(); });
}

void Examples::add(std::span<const int32_t> ids, const std::vector<bool>& trained,
                   std::span<const float> weights) {
  // A copy of this object shares the block: what it sees must not change.
  if (growing_ == nullptr || parts_.back().block != growing_ || growing_.use_count() > 2) {
    growing_ = std::make_shared<ExampleBlock>();
    parts_.push_back({growing_, size_, 0, {}});
  }
  num_labels_ -= growing_->num_labels();
  growing_->add(ids, trained, weights);
  num_labels_ += growing_->num_labels();
  num_tokens_ += static_cast<int64_t>(ids.size());
  ++parts_.back().count;
  ++size_;
}

void Examples::add_values(std::span<const double> values) {
  SERVAL_CHECK(growing_ != nullptr && parts_.back().block == growing_);
  growing_->add_values(values);
}

void Examples::add_part(const std::shared_ptr<const ExampleBlock>& block) {
  if (block->size() == 0) return;
  parts_.push_back({block, size_, block->size(), {}});
  size_ += block->size();
  num_tokens_ += block->num_tokens();
  num_labels_ += block->num_labels();
}

void Examples::append(const Examples& others) {
  for (Part part : std::vector<Part>(others.parts_)) {
    part.begin += size_;
    parts_.push_back(std::move(part));
  }
  size_ += others.size_;
  num_tokens_ += others.num_tokens_;
  num_labels_ += others.num_labels_;
}

void Examples::append_draws(const Examples& others, int64_t count, PhiloxKey key) {
  SERVAL_CHECK(others.size() > 0 && count >= 0);
  for (; count >= others.size(); count -= others.size()) append(others);
  const Examples from = others;  // it may be this object
  for (const Part& part : from.parts_) {
    SERVAL_CHECK(part.order.size() == 0, "draws of draws");
    // Each part gives its share: the numbers add up to `count`.
    const auto share = [&](int64_t end) {
      return static_cast<int64_t>(static_cast<Wide>(count) * end / from.size());
    };
    const int64_t taken = share(part.begin + part.count) - share(part.begin);
    if (taken == 0) continue;
    parts_.push_back({part.block, size_, taken, Permutation(part.count, key)});
    const Permutation& order = parts_.back().order;
    for (int64_t i = 0; i < taken; ++i) {
      num_tokens_ += part.block->length(order(i));
      num_labels_ += part.block->labels(order(i));
    }
    size_ += taken;
  }
}

int64_t Examples::memory_bytes() const {
  int64_t bytes = 0;
  for (const Part& part : parts_) bytes += part.block->memory_bytes();
  return bytes;
}

void Examples::forget() const {
  for (const Part& part : parts_) part.block->forget();
}

}  // namespace serval
