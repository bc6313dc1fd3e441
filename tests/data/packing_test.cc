#include "data/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <set>

#include "base/json.h"
#include "base/philox.h"
#include "data/examples.h"
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

// Best fit as it is told, document by document: which bin each goes into.
std::vector<int64_t> bins_one_by_one(const std::vector<int64_t>& lengths, int64_t capacity) {
  std::vector<size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
  std::map<int64_t, std::deque<int64_t>> bins_by_room;  // the oldest first
  std::vector<int64_t> bin_of(lengths.size());
  int64_t bins = 0;
  for (const size_t document : order) {
    const auto best = bins_by_room.lower_bound(lengths[document]);
    int64_t bin = bins, room = capacity;
    if (best == bins_by_room.end()) {
      ++bins;
    } else {
      room = best->first;
      bin = best->second.front();
      best->second.pop_front();
      if (best->second.empty()) bins_by_room.erase(best);
    }
    bin_of[document] = bin;
    if (room > lengths[document]) bins_by_room[room - lengths[document]].push_back(bin);
  }
  return bin_of;
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
      EXPECT_TRUE(packing.members == pack_best_fit(lengths, capacity).members);
    }
  }
}

// Bins that are filled alike are worked on together; the result is that of one document after the other.
TEST(Packing, EqualsOneByOne) {
  const PhiloxKey key = philox_key(12, "packing_test", 0, 0);
  uint64_t element = 0;
  for (const int64_t capacity : {1, 3, 10, 64, 2048}) {
    for (const int64_t longest : {int64_t{2}, int64_t{9}, capacity / 2, capacity}) {
      for (const size_t count : {1, 50, 3000}) {
        std::vector<int64_t> lengths(count);
        for (int64_t& length : lengths)
          length = 1 + philox_u32(key, element++) % std::clamp<int64_t>(longest, 1, capacity);
        const Packing packing = pack_best_fit(lengths, capacity);
        const std::vector<int64_t> expected = bins_one_by_one(lengths, capacity);
        for (int64_t bin = 0; bin < packing.num_bins(); ++bin)
          for (const int64_t document : packing.documents(bin))
            ASSERT_EQ(expected[static_cast<size_t>(document)], bin);
      }
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

// Documents whose token ids tell document and place, as in the fixture.
Examples numbered_documents(const Json& lengths) {
  Examples examples;
  for (size_t d = 0; d < lengths.size(); ++d) {
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < lengths.as_array()[d].as_int(); ++t)
      ids.push_back(static_cast<int32_t>(100 * static_cast<int64_t>(d) + t));
    examples.add(ids, std::vector<bool>(ids.size(), true));
  }
  return examples;
}

Examples pieces_of(const Examples& documents, int64_t capacity, bool wrapped) {
  Examples result;
  PieceSink sink(result, capacity, wrapped);
  for (int64_t i = 0; i < documents.size(); ++i) {
    std::vector<bool> trained;
    std::vector<float> weights;
    for (int64_t token = 0; token < documents.length(i); ++token) {
      trained.push_back(documents.trained(i, token));
      weights.push_back(documents.weight(i, token));
    }
    const bool plain = std::all_of(weights.begin(), weights.end(), [](float weight) { return weight == 1; });
    sink.add(documents.ids(i), trained, plain ? std::span<const float>() : weights);
  }
  sink.finish();
  return result;
}

TEST(Packing, PiecesAreTrls) {
  const std::string path = testing::fixture("data/expected.json");
  const Json expected = Json::parse(read_file(path), path).at("pieces");
  ASSERT_EQ(expected.size(), 2u);
  for (const Json& one : expected.as_array()) {
    SCOPED_TRACE(one.at("strategy").as_string());
    const bool wrapped = one.at("strategy") == Json("wrapped");
    const int64_t capacity = one.at("capacity").as_int();
    const Examples documents = numbered_documents(one.at("lengths"));
    const Examples pieces = pieces_of(documents, capacity, wrapped);
    std::multiset<std::vector<int32_t>> ours, trls;
    std::vector<int64_t> lengths;
    for (int64_t i = 0; i < pieces.size(); ++i) {
      ours.emplace(pieces.ids(i).begin(), pieces.ids(i).end());
      lengths.push_back(pieces.length(i));
    }
    // TRL keeps a piece of one token, which has no label.
    for (const Json& row : one.at("rows").as_array()) {
      for (const Json& piece : wrapped ? Json::Array{row} : row.as_array())
        if (piece.size() > 1) trls.insert(testing::integers(piece));
    }
    EXPECT_EQ(ours, trls);
    EXPECT_EQ(pieces.num_labels(), pieces.num_tokens() - pieces.size());
    if (!wrapped) {
      EXPECT_LE(pack_best_fit(lengths, capacity).num_bins(), static_cast<int64_t>(one.at("rows").size()));
    }
  }
}

TEST(Packing, PiecesKeepMaskAndWeights) {
  Examples documents;
  documents.add(std::vector<int32_t>{1, 2, 3}, {true, false, false});
  documents.add(std::vector<int32_t>{4, 5, 6, 7, 8}, {true, false, true, true, false},
                std::vector<float>{1, 1, 0.5f, 2, 1});
  const Examples wrapped = pieces_of(documents, 4, true), split = pieces_of(documents, 3, false);
  ASSERT_EQ(wrapped.size(), 2);
  EXPECT_EQ(wrapped.labels(0), 1);  // token 4 follows those of another document
  EXPECT_TRUE(wrapped.trained(0, 3));
  EXPECT_EQ(wrapped.weight(0, 3), 1);
  EXPECT_EQ(wrapped.weight(1, 1), 0.5f);
  EXPECT_EQ(wrapped.weight(1, 2), 2);
  EXPECT_EQ(wrapped.labels(1), 2);
  // 1 2 3 and 7 8 have no label that something predicts.
  ASSERT_EQ(split.size(), 1);
  EXPECT_EQ(split.ids(0)[0], 4);
  EXPECT_EQ(split.weight(0, 2), 0.5f);
}

TEST(Packing, WindowsArePackedByThemselves) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 23; ++i) lengths.push_back(1 + i * 7 % 10);
  for (const int64_t window : {1, 4, 10, 22, 23, 100}) {
    const Packing packing = pack_best_fit(lengths, 10, window);
    expect_valid(packing, lengths, 10);
    for (int64_t bin = 0; bin < packing.num_bins(); ++bin)
      for (const int64_t document : packing.documents(bin))
        EXPECT_EQ(document / window, packing.documents(bin)[0] / window);
  }
  EXPECT_EQ(pack_best_fit(lengths, 10, 1).num_bins(), 23);
  EXPECT_TRUE(pack_best_fit(lengths, 10, 100).members == pack_best_fit(lengths, 10).members);
}

TEST(Packing, ManyDocumentsTakeLittleTime) {
  std::vector<int64_t> lengths(300000);
  for (size_t i = 0; i < lengths.size(); ++i) lengths[i] = static_cast<int64_t>(1 + i * 7919 % 1500);
  const Packing packing = pack_best_fit(lengths, 2048);
  EXPECT_GT(packing.utilisation, 0.95);
}

}  // namespace
}  // namespace serval
