#include "text/tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace serval {
namespace {

struct Merge {
  std::string left, right;
};

BpeModel model_of(const std::vector<std::string>& tokens, const std::vector<Merge>& merges,
                  BpeOptions options) {
  TokenTable table;
  for (size_t i = 0; i < tokens.size(); ++i) table.add(tokens[i], static_cast<int32_t>(i));
  BpeModel model(std::move(table), std::move(options), "test");
  for (size_t i = 0; i < merges.size(); ++i)
    model.add_merge(merges[i].left, merges[i].right, static_cast<int64_t>(i));
  return model;
}

// The lowest rank first, the leftmost of equals, over a text of one-byte characters; "#" is unknown.
std::vector<std::string> merged_one_by_one(const std::string& text, const std::vector<Merge>& merges) {
  std::map<std::pair<std::string, std::string>, size_t> rank_of;
  for (size_t i = 0; i < merges.size(); ++i) rank_of[{merges[i].left, merges[i].right}] = i;
  std::map<size_t, std::string> tokens;  // by where they start
  for (size_t i = 0; i < text.size(); ++i)
    if (i > 0 && text[i] == '#' && text[i - 1] == '#') {
      tokens.rbegin()->second += '#';
    } else {
      tokens[i] = text[i];
    }
  std::set<std::pair<size_t, size_t>> candidates;  // rank, place
  const auto change = [&](size_t at, bool put) {
    const auto here = tokens.find(at);
    if (here == tokens.end() || std::next(here) == tokens.end()) return;
    const auto rank = rank_of.find({here->second, std::next(here)->second});
    if (rank == rank_of.end()) return;
    if (put) {
      candidates.emplace(rank->second, at);
    } else {
      candidates.erase({rank->second, at});
    }
  };
  for (size_t i = 0; i < text.size(); ++i) change(i, true);
  while (!candidates.empty()) {
    const size_t at = candidates.begin()->second;
    const auto here = tokens.find(at), next = std::next(here);
    const size_t before = here == tokens.begin() ? text.size() : std::prev(here)->first;
    for (const size_t place : {before, at, next->first}) change(place, false);
    here->second += next->second;
    tokens.erase(next);
    for (const size_t place : {before, at}) change(place, true);
  }
  std::vector<std::string> result;
  for (auto& [at, token] : tokens) result.push_back(token);
  return result;
}

// Merges of random neighbours make tokens that depend on text far away, so that windows have to grow.
TEST(Bpe, LongPiecesBecomeWhatMergingOneByOneMakes) {
  std::mt19937 random(20261121);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  for (int round = 0; round < 10; ++round) {
    std::vector<std::string> tokens = {"?", "a", "b", "c"};
    std::vector<Merge> merges;
    const size_t count = 1 + below(60);
    while (merges.size() < count) {
      const Merge merge = {tokens[1 + below(tokens.size() - 1)], tokens[1 + below(tokens.size() - 1)]};
      if (merge.left.size() + merge.right.size() > 40) continue;
      const std::string merged = merge.left + merge.right;
      if (std::find(tokens.begin(), tokens.end(), merged) != tokens.end()) continue;
      tokens.push_back(merged);
      merges.push_back(merge);
    }
    std::shuffle(merges.begin(), merges.end(), random);
    // A merge of the second half may be needed by one of the first: any order is allowed.
    const BpeModel model = model_of(tokens, merges, {.unk_token = "?", .fuse_unk = true});
    for (int kind = 0; kind < 4; ++kind) {
      std::string text(40'000 + below(100), 'a');
      const size_t period = 2 + below(50);
      for (size_t i = 0; i < text.size(); ++i) {
        if (kind == 1) text[i] = "abc"[below(3)];
        if (kind == 2) text[i] = i >= period ? text[i - period] : "abc"[below(3)];
        if (kind == 3) text[i] = below(3) == 0 ? "abc"[below(3)] : i > 20'000 ? '#' : 'a';
      }
      std::vector<ModelToken> found;
      model.tokenize(text, /*byte_level=*/false, found);
      std::vector<std::string> pieces;
      for (const ModelToken& token : found)
        pieces.push_back(text.substr(token.begin, token.end - token.begin));
      ASSERT_EQ(pieces, merged_one_by_one(text, merges)) << "round " << round << ", text " << kind;
    }
  }
}

// A chain of merges from one end of the text to the other: no window knows enough.
TEST(Bpe, ADependenceAcrossTheWholeTextIsKept) {
  // Pairs of "a" are counted from the left end, and a "c" there shifts all of them.
  const std::vector<Merge> merges = {{"c", "a"}, {"a", "a"}};
  const BpeModel model = model_of({"?", "a", "c", "ca", "aa"}, merges, {.unk_token = "?"});
  for (const char* start : {"", "c"}) {
    const std::string text = start + std::string(30'001, 'a');
    std::vector<ModelToken> found;
    model.tokenize(text, false, found);
    std::vector<std::string> pieces;
    for (const ModelToken& token : found) pieces.push_back(text.substr(token.begin, token.end - token.begin));
    EXPECT_EQ(pieces, merged_one_by_one(text, merges));
  }
}

}  // namespace
}  // namespace serval
