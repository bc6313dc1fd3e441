#include "data/examples.h"

#include "base/error.h"

namespace serval {

int64_t Examples::labels(int64_t example) const {
  int64_t count = 0;
  for (int64_t token = 1; token < length(example); ++token) count += trained(example, token);
  return count;
}

void Examples::add(std::span<const int32_t> ids, const std::vector<bool>& trained) {
  SERVAL_CHECK(ids.size() == trained.size());
  const auto begin = static_cast<size_t>(num_tokens());
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  starts_.push_back(static_cast<int64_t>(ids_.size()));
  trained_.resize((ids_.size() + 63) / 64, 0);
  for (size_t i = 0; i < trained.size(); ++i) {
    if (!trained[i]) continue;
    trained_[(begin + i) / 64] |= uint64_t{1} << ((begin + i) % 64);
    num_labels_ += i > 0;
  }
}

void Examples::append(const Examples& others) {
  std::vector<bool> mask;
  for (int64_t i = 0; i < others.size(); ++i) {
    mask.assign(static_cast<size_t>(others.length(i)), false);
    for (size_t token = 0; token < mask.size(); ++token)
      mask[token] = others.trained(i, static_cast<int64_t>(token));
    add(others.ids(i), mask);
  }
}

}  // namespace serval
