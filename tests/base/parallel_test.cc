#include "base/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/cpu.h"

namespace serval {
namespace {

std::vector<std::pair<int64_t, int64_t>> parts_of(int64_t begin, int64_t end, int64_t grain) {
  std::mutex mutex;
  std::vector<std::pair<int64_t, int64_t>> parts;
  parallel_for(begin, end, grain, [&](int64_t from, int64_t to) {
    const std::lock_guard<std::mutex> lock(mutex);
    parts.emplace_back(from, to);
  });
  std::sort(parts.begin(), parts.end());
  return parts;
}

TEST(Parallel, CoversTheRangeOnceInEqualParts) {
  set_num_threads(3);
  EXPECT_EQ(parts_of(0, 10, 1), (std::vector<std::pair<int64_t, int64_t>>{{0, 4}, {4, 7}, {7, 10}}));
  EXPECT_EQ(parts_of(5, 7, 1), (std::vector<std::pair<int64_t, int64_t>>{{5, 6}, {6, 7}}));
  EXPECT_EQ(parts_of(0, 10, 5), (std::vector<std::pair<int64_t, int64_t>>{{0, 5}, {5, 10}}));
  EXPECT_EQ(parts_of(0, 10, 6), (std::vector<std::pair<int64_t, int64_t>>{{0, 10}}));
  EXPECT_TRUE(parts_of(4, 4, 1).empty());
  EXPECT_TRUE(parts_of(4, 3, 1).empty());
  set_num_threads(0);
}

TEST(Parallel, InnerRangesRunSerially) {
  set_num_threads(2);
  std::vector<size_t> inner(2);
  parallel_for(0, 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) inner[static_cast<size_t>(i)] = parts_of(0, 100, 1).size();
  });
  EXPECT_EQ(inner, (std::vector<size_t>{1, 1}));
  set_num_threads(0);
}

TEST(Parallel, ExceptionsReachTheCaller) {
  set_num_threads(2);
  auto throws = [](int64_t begin, int64_t) {
    if (begin > 0) throw std::runtime_error("part");
  };
  EXPECT_THROW(parallel_for(0, 2, 1, throws), std::runtime_error);
  set_num_threads(0);
}

TEST(Parallel, PhasesFollowEachOther) {
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    std::vector<int64_t> last(7, -1);  // the phase that each part reached
    bool in_order = true;
    std::mutex mutex;
    parallel_phases(7, 20, [&](int64_t phase, int64_t part) {
      const std::lock_guard<std::mutex> lock(mutex);
      for (const int64_t reached : last) in_order &= reached == phase || reached == phase - 1;
      last[static_cast<size_t>(part)] = phase;
    });
    EXPECT_TRUE(in_order) << threads;
    EXPECT_EQ(last, std::vector<int64_t>(7, 19));
    int64_t latest = 0;
    const auto throws = [&](int64_t phase, int64_t part) {
      const std::lock_guard<std::mutex> lock(mutex);
      latest = std::max(latest, phase);
      if (phase == 3 && part == 2) throw std::runtime_error("part");
    };
    EXPECT_THROW(parallel_phases(4, 20, throws), std::runtime_error);
    EXPECT_EQ(latest, 3);
  }
  set_num_threads(0);
}

TEST(Cpu, OverrideOnlyDownwards) {
  EXPECT_EQ(cpu_isa(), best_cpu_isa());
  set_cpu_isa(CpuIsa::generic);
  EXPECT_EQ(cpu_isa(), CpuIsa::generic);
  EXPECT_NE(cpu_text().find("generic"), std::string::npos);
  set_cpu_isa(best_cpu_isa());
  EXPECT_EQ(usable_cpu_isas().back(), best_cpu_isa());
  EXPECT_GE(physical_cores(), 1);
}

}  // namespace
}  // namespace serval
