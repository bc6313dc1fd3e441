#include "data/disk_vector.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "data_test_tools.h"

namespace serval {
namespace {

constexpr size_t kInMemory = DiskBuffer::kMemoryBytes / sizeof(int64_t);

TEST(DiskVector, KeepsItsValuesOnTheWayToTheDisk) {
  DiskVector<int64_t> values;
  for (size_t i = 0; i < 5 * kInMemory + 3; ++i) {
    EXPECT_EQ(values.on_disk(), i > kInMemory);
    values.push_back(static_cast<int64_t>(i) * 3);
  }
  EXPECT_EQ(values.size(), 5 * kInMemory + 3);
  EXPECT_EQ(values.memory_bytes(), 0);
  values.forget();
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<int64_t>(i) * 3);
  std::sort(values.begin(), values.end(), std::greater<>());
  EXPECT_EQ(values.back(), 0);
}

TEST(DiskVector, Resize) {
  DiskVector<int32_t> values;
  EXPECT_TRUE(values.empty());
  values.resize(3);
  values[2] = 7;
  values.pop_back();
  values.resize(4 * kInMemory);  // what was taken away does not come back
  EXPECT_EQ(std::count(values.begin(), values.end(), 0), static_cast<std::ptrdiff_t>(4 * kInMemory));
}

TEST(DiskVector, Moves) {
  for (const size_t size : {size_t{10}, 2 * kInMemory}) {
    DiskVector<int64_t> a, c;
    a.resize(size);
    std::iota(a.begin(), a.end(), 0);
    DiskVector<int64_t> b = std::move(a);
    c.push_back(1);
    c = std::move(b);
    EXPECT_EQ(c.size(), size);
    EXPECT_EQ(c.back(), static_cast<int64_t>(size) - 1);
    DiskVector<int64_t> same;
    for (size_t i = 0; i < size; ++i) same.push_back(static_cast<int64_t>(i));
    EXPECT_TRUE(c == same);
    same[1] = 0;
    EXPECT_FALSE(c == same);
  }
}

TEST(DiskVector, NoPlaceIsAnError) {
  DiskVector<int64_t> values("/proc/none");
  values.resize(kInMemory);
  EXPECT_HAS(testing::error_of([&] { values.push_back(1); }), "/proc/none");
}

}  // namespace
}  // namespace serval
