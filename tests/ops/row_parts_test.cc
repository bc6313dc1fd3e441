#include "ops/common/row_parts.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace serval::testing {
namespace {

TEST(RowParts, BlocksCoverTheRowsWithFewSizes) {
  std::set<int64_t> sizes;
  for (const int64_t first : {0, 5}) {
    for (int64_t rows = 0; rows < 2500; ++rows) {
      std::vector<int> done(static_cast<size_t>(rows), 0);
      int64_t work = 0;
      for_row_blocks(first, first + rows, [&](int64_t begin, int64_t end) {
        ASSERT_TRUE(first <= begin && begin < end && end <= first + rows) << rows;
        for (int64_t i = begin; i < end; ++i) ++done[static_cast<size_t>(i - first)];
        if (rows >= 16) sizes.insert(end - begin);
        work += end - begin;
      });
      for (const int times : done) ASSERT_GE(times, 1) << rows;
      if (rows >= 64) {
        EXPECT_LE(work, rows * 13 / 10) << rows;
      }
    }
  }
  EXPECT_EQ(sizes, (std::set<int64_t>{16, 32, 64, 128, 256, 512, 1024}));
}

TEST(RowParts, ALargeWeightIsOnePiece) {
  std::vector<std::pair<int64_t, int64_t>> calls;
  for_row_parts(false, 700, [&](int64_t begin, int64_t end) { calls.emplace_back(begin, end); });
  EXPECT_EQ(calls, (std::vector<std::pair<int64_t, int64_t>>{{0, 700}}));
  EXPECT_TRUE(is_small_weight(512, 512, DType::bf16));
  EXPECT_FALSE(is_small_weight(513, 512, DType::bf16));
}

}  // namespace
}  // namespace serval::testing
