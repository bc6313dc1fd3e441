#include "data/mix.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace serval {

MixStrategy mix_strategy_from_name(const std::string& name) {
  if (name == "interleave_under") return MixStrategy::interleave_under;
  if (name == "interleave_over") return MixStrategy::interleave_over;
  SERVAL_CHECK(name == "concat");
  return MixStrategy::concat;
}

std::vector<int64_t> mix_counts(std::span<const int64_t> sizes, std::span<const double> weights,
                                MixStrategy strategy) {
  SERVAL_CHECK(!sizes.empty() && sizes.size() == weights.size());
  std::vector<int64_t> counts(sizes.begin(), sizes.end());
  if (strategy == MixStrategy::concat) return counts;
  // How many rows a weight of 1 stands for when dataset i is used up exactly.
  const auto rows_of_one = [&](size_t i) { return static_cast<double>(sizes[i]) / weights[i]; };
  size_t limiting = 0;
  for (size_t i = 1; i < sizes.size(); ++i) {
    const bool less = rows_of_one(i) < rows_of_one(limiting);
    if (less == (strategy == MixStrategy::interleave_under)) limiting = i;
  }
  const double unit = rows_of_one(limiting);
  double total = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    total += weights[i] * unit;
    counts[i] = std::max<int64_t>(1, std::llround(weights[i] * unit));
  }
  counts[limiting] = sizes[limiting];
  if (total > 1e12)
    fail_usage("the weights would make a mix of {:.3g} rows; bring them nearer to each other", total);
  return counts;
}

}  // namespace serval
