#include "data/mask.h"

#include <gtest/gtest.h>

namespace serval {
namespace {

// Encodings written by hand, so that byte positions are all that counts.
Encoding encoding(std::vector<Encoding::Span> spans) {
  Encoding result;
  for (size_t i = 0; i < spans.size(); ++i) result.ids.push_back(static_cast<int32_t>(10 + i));
  result.spans = std::move(spans);
  return result;
}

using Mask = std::vector<bool>;

TEST(Masks, TokensInsideSpans) {
  const std::string text = "ab cd ef gh";
  const Encoding tokens = encoding({{0, 0}, {0, 2}, {2, 5}, {5, 8}, {8, 11}, {11, 11}});
  EXPECT_EQ(tokens_inside(text, tokens, std::vector<TextSpan>{{3, 8}}),
            (Mask{false, false, true, true, false, false}));
  EXPECT_EQ(tokens_inside(text, tokens, std::vector<TextSpan>{{0, 2}, {8, 11}}),
            (Mask{false, true, false, false, true, false}));
  // Half of "cd" is outside: that token is not trained.
  EXPECT_EQ(tokens_inside(text, tokens, std::vector<TextSpan>{{4, 11}}),
            (Mask{false, false, false, true, true, false}));
  EXPECT_EQ(tokens_inside(text, tokens, std::vector<TextSpan>{{3, 7}}),
            (Mask{false, false, true, false, false, false}));
  EXPECT_EQ(tokens_inside(text, tokens, {}), Mask(6, false));
  EXPECT_EQ(tokens_inside(text, tokens, std::vector<TextSpan>{{4, 4}}), Mask(6, false));
}

TEST(Masks, ResponsesBetweenTexts) {
  const std::vector<int32_t> q = {1, 2}, a = {3};
  const auto mask = [&](std::vector<int32_t> ids, bool last) { return tokens_of_responses(ids, q, a, last); };
  EXPECT_EQ(mask({9, 1, 2, 5, 3, 6, 7, 1, 2, 5, 3, 8}, false),
            (Mask{false, false, false, false, false, true, true, false, false, false, false, true}));
  EXPECT_EQ(mask({9, 1, 2, 5, 3, 6, 7, 1, 2, 5, 3, 8}, true),
            (Mask{false, false, false, false, false, false, false, false, false, false, false, true}));
  // What follows a response without an instruction between (a tool's answer, a second response) is in it.
  EXPECT_EQ(mask({3, 6, 3, 7, 1, 9}, false), (Mask{false, true, true, true, true, true}));
  EXPECT_EQ(mask({3, 6, 3, 7, 1, 9}, true), (Mask{false, false, false, true, true, true}));
  EXPECT_EQ(mask({3, 1, 2, 3, 1, 2}, false), Mask(6, false));
  EXPECT_EQ(mask({1, 2, 6}, false), Mask(3, false));
  EXPECT_EQ(mask({1, 2, 6}, true), Mask(3, false));
  EXPECT_EQ(mask({}, true), Mask());
}

TEST(Masks, TokensThatShareBytes) {
  // Two tokens of one character that both report its three bytes.
  const std::string text =
      "a\xE6\x9D\xB1"
      "b";
  const Encoding tokens = encoding({{0, 1}, {1, 4}, {1, 4}, {4, 5}});
  EXPECT_EQ(tokens_inside(text, tokens, std::vector<TextSpan>{{1, 4}}), (Mask{false, true, true, false}));
}

TEST(Masks, CompletionBeginsWhereTheTextDoes) {
  const std::string text = "prompt answer";
  const Encoding whole = encoding({{0, 0}, {0, 6}, {6, 13}, {13, 13}});
  EXPECT_EQ(tokens_of_completion(text, whole, std::vector<int32_t>{10, 11}, 6),
            (Mask{false, false, true, true}));
  // "prompt " alone has another last token; the blank may stick out of the completion.
  EXPECT_EQ(tokens_of_completion(text, whole, std::vector<int32_t>{10, 11, 99}, 7),
            (Mask{false, false, true, true}));
  // "prompt an" + "swer": the token is of both.
  EXPECT_EQ(tokens_of_completion(text, whole, std::vector<int32_t>{10, 11, 98}, 9),
            (Mask{false, false, false, true}));
  // The prompt's own tokens are never trained, whatever they become.
  EXPECT_EQ(tokens_of_completion(text, whole, std::vector<int32_t>{10, 97}, 6),
            (Mask{false, false, true, true}));
  // The template writes the prompt in another way: from where the tokens diverge.
  EXPECT_EQ(tokens_of_completion(text, whole, std::vector<int32_t>{10, 97}, std::nullopt),
            (Mask{false, true, true, true}));
  EXPECT_EQ(tokens_of_completion(text, whole, {}, 0), (Mask{true, true, true, true}));
}

}  // namespace
}  // namespace serval
