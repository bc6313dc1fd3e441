// How many rows of each dataset make up a mix of several.
//
//   const std::vector<int64_t> counts = mix_counts({1000, 10}, {3, 1}, MixStrategy::interleave_under);   //
//   30, 10
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace serval {

enum class MixStrategy {
  concat,            // all rows of each; weights play no part
  interleave_under,  // shares by weight, as many as the first dataset to run out allows
  interleave_over    // shares by weight, until the last has run out: rows of the others come again
};
MixStrategy mix_strategy_from_name(const std::string& name);

// Sizes and weights are above 0. Every dataset gives one row at least.
std::vector<int64_t> mix_counts(std::span<const int64_t> sizes, std::span<const double> weights,
                                MixStrategy strategy);

}  // namespace serval
