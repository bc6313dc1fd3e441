#include "base/philox.h"

#include <gtest/gtest.h>

namespace serval {
namespace {

// Known answers of Random123's philox4x32-10 (kat_vectors).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox_block({{0, 0}, {0, 0}}, 0),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox_block({{0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}}, 0xffffffffffffffffull),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Philox, NormalHasUnitVariance) {
  double sum = 0, squares = 0;
  const PhiloxKey key = philox_key(1, "w", 0, 0);
  for (uint64_t i = 0; i < 20000; ++i) {
    const double x = philox_normal(key, i);
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 20000, 0, 0.03);  // three standard errors are 0.02
  EXPECT_NEAR(squares / 20000, 1, 0.05);
}

}  // namespace
}  // namespace serval
