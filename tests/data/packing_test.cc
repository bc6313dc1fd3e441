#include "data/packing.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "base/philox.h"
#include "data_test_tools.h"

namespace serval {
namespace {

// Best fit by looking at every bin for every document.
int64_t brute_force_bins(std::vector<int64_t> lengths, int64_t capacity) {
  std::sort(lengths.rbegin(), lengths.rend());
  std::vector<int64_t> rooms;
  for (const int64_t length : lengths) {
    int64_t* best = nullptr;
    for (int64_t& room : rooms)
      if (room >= length && (best == nullptr || room < *best)) best = &room;
    if (best == nullptr) best = &rooms.emplace_back(capacity);
    *best -= length;
  }
  return static_cast<int64_t>(rooms.size());
}

void expect_valid(const Packing& packing, const std::vector<int64_t>& lengths, int64_t capacity) {
  std::vector<bool> seen(lengths.size(), false);
  for (int64_t bin = 0; bin < packing.num_bins(); ++bin) {
    int64_t total = 0;
    EXPECT_FALSE(packing.documents(bin).empty());
    for (const int64_t document : packing.documents(bin)) {
      EXPECT_FALSE(seen.at(static_cast<size_t>(document)));
      seen[static_cast<size_t>(document)] = true;
      total += lengths[static_cast<size_t>(document)];
    }
    EXPECT_LE(total, capacity);
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), static_cast<int64_t>(lengths.size()));
}

TEST(Packing, ByHand) {
  const Packing packing = pack_best_fit(std::vector<int64_t>{3, 7, 5, 5, 10}, 10);
  ASSERT_EQ(packing.num_bins(), 3);
  EXPECT_EQ(std::vector<int64_t>(packing.documents(0).begin(), packing.documents(0).end()),
            (std::vector<int64_t>{4}));
  EXPECT_EQ(std::vector<int64_t>(packing.documents(1).begin(), packing.documents(1).end()),
            (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(std::vector<int64_t>(packing.documents(2).begin(), packing.documents(2).end()),
            (std::vector<int64_t>{2, 3}));
  EXPECT_DOUBLE_EQ(packing.utilisation, 1.0);
  EXPECT_EQ(pack_best_fit({}, 10).num_bins(), 0);
}

TEST(Packing, RandomLengthsEqualBruteForce) {
  const PhiloxKey key = philox_key(11, "packing_test", 0, 0);
  uint64_t element = 0;
  for (const int64_t capacity : {1, 2, 7, 64, 500}) {
    for (const size_t count : {1, 2, 10, 300}) {
      std::vector<int64_t> lengths(count);
      for (int64_t& length : lengths) length = 1 + philox_u32(key, element++) % capacity;
      const Packing packing = pack_best_fit(lengths, capacity);
      expect_valid(packing, lengths, capacity);
      EXPECT_EQ(packing.num_bins(), brute_force_bins(lengths, capacity));
      EXPECT_EQ(packing.members, pack_best_fit(lengths, capacity).members);
    }
  }
}

TEST(Packing, AsManyRowsAsTrl) {
  const std::string path = testing::fixture("data/expected.json");
  const Json expected = Json::parse(read_file(path), path);
  ASSERT_GE(expected.at("packing").size(), 5u);
  for (const Json& one : expected.at("packing").as_array()) {
    std::vector<int64_t> lengths;
    for (const Json& length : one.at("lengths").as_array()) lengths.push_back(length.as_int());
    const Packing packing = pack_best_fit(lengths, one.at("capacity").as_int());
    expect_valid(packing, lengths, one.at("capacity").as_int());
    EXPECT_EQ(packing.num_bins(), one.at("rows").as_int());
  }
}

TEST(Packing, ManyDocumentsTakeLittleTime) {
  std::vector<int64_t> lengths(300000);
  for (size_t i = 0; i < lengths.size(); ++i) lengths[i] = static_cast<int64_t>(1 + i * 7919 % 1500);
  const Packing packing = pack_best_fit(lengths, 2048);
  EXPECT_GT(packing.utilisation, 0.95);
}

}  // namespace
}  // namespace serval
