#include "base/permutation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace serval {
namespace {

PhiloxKey key_of(uint64_t seed) {
  return philox_key(seed, "test", 0, 0);
}

TEST(Permutation, EachNumberOnce) {
  for (const int64_t count :
       {int64_t{1}, int64_t{2}, int64_t{1000}, Permutation::kTableLimit, Permutation::kTableLimit + 1,
        int64_t{262144}, int64_t{262145}, int64_t{300007}}) {
    const Permutation order(count, key_of(3));
    std::vector<bool> seen(static_cast<size_t>(count), false);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t to = order(i);
      ASSERT_TRUE(to >= 0 && to < count);
      ASSERT_FALSE(seen[static_cast<size_t>(to)]) << count;
      seen[static_cast<size_t>(to)] = true;
    }
  }
}

TEST(Permutation, IdentityAndSeeds) {
  const Permutation same(100000), a(100000, key_of(1)), again(100000, key_of(1)), b(100000, key_of(2));
  int64_t fixed = 0, common = 0;
  for (int64_t i = 0; i < 100000; ++i) {
    EXPECT_EQ(same(i), i);
    EXPECT_EQ(a(i), again(i));
    fixed += a(i) == i;
    common += a(i) == b(i);
  }
  EXPECT_LT(fixed, 12);  // 1 is expected, Poisson
  EXPECT_LT(common, 12);
}

// The first tenth of the order is spread over the range: means and neighbours as of random draws.
TEST(Permutation, LargeOrdersLookRandom) {
  const int64_t count = 1'000'000, draws = 100'000;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const Permutation order(count, key_of(seed));
    double sum = 0, product = 0, before = 0;
    std::vector<int64_t> buckets(100, 0);
    for (int64_t i = 0; i < draws; ++i) {
      const double x = static_cast<double>(order(i)) / static_cast<double>(count) - 0.5;
      sum += x;
      product += x * before;
      before = x;
      ++buckets[static_cast<size_t>(order(i) * 100 / count)];
    }
    // Five standard deviations of uniform draws: sd of the mean 0.29 / sqrt(n), of the product 0.083 /
    // sqrt(n).
    EXPECT_LT(std::abs(sum / static_cast<double>(draws)), 5 * 0.29 / std::sqrt(draws));
    EXPECT_LT(std::abs(product / static_cast<double>(draws)), 5 * 0.084 / std::sqrt(draws));
    for (const int64_t bucket : buckets)
      EXPECT_NEAR(static_cast<double>(bucket), 1000, 5 * std::sqrt(1000.0));
  }
}

TEST(Permutation, HugeRangesNeedNoTable) {
  const int64_t count = int64_t{1} << 40;
  const Permutation order(count, key_of(5));
  std::set<int64_t> seen;
  for (int64_t i = 0; i < 10000; ++i) EXPECT_TRUE(seen.insert(order(i * 100'000'007)).second);
}

}  // namespace
}  // namespace serval
