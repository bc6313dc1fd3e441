// Generation with a cache: the same logits however the prompt was read, and draws that follow their settings.
#include "generate/generator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "models/pretrained.h"
#include "support/model_logits.h"
#include "support/test_data.h"

namespace serval::testing {
namespace {

struct Loaded {
  std::unique_ptr<Device> device = make_cpu_device();
  Pretrained model;
  std::unique_ptr<Generator> generator;
  Loaded(const std::string& directory, int64_t capacity, int64_t prefill_tokens)
      : model(Pretrained::open({.model = directory})) {
    generator = std::make_unique<Generator>(GeneratorOptions{.model = model.config(),
                                                             .network = model.network_options(),
                                                             .capacity = capacity,
                                                             .prefill_tokens = prefill_tokens},
                                            *device);
    model.load_weights(generator->parameters(), generator->states());
  }
};

const std::vector<int32_t> kPrompt = {3, 14, 15, 29, 65, 35, 8, 9, 61, 32, 38, 46, 26};

double relative_error(std::span<const float> a, std::span<const float> b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

class EveryFamily : public ::testing::TestWithParam<const char*> {};

// One run over the whole text, pieces of every size, and token by token.
TEST_P(EveryFamily, CachedLogitsAreThoseOfAWholeForward) {
  const std::string directory = fixture(std::string("models/") + GetParam());
  Loaded one(directory, 32, 1);
  const auto vocab = static_cast<size_t>(one.model.config().vocab_size);
  const std::vector<float> rows = forward_logits(one.model.config(), one.model.network_options(), {kPrompt},
                                                 weights_of(one.model), *one.device);
  const auto whole = [&](size_t tokens) { return std::span(rows).subspan((tokens - 1) * vocab, vocab); };
  for (size_t tokens = 1; tokens <= kPrompt.size(); ++tokens)
    EXPECT_LT(relative_error(one.generator->logits_after(std::span(kPrompt).first(tokens)), whole(tokens)),
              1e-5);
  for (const int64_t piece : {2, 3, 5, 13, 20}) {
    Loaded pieces(directory, 32, piece);
    EXPECT_LT(relative_error(pieces.generator->logits_after(kPrompt), whole(kPrompt.size())), 1e-5) << piece;
    // A prompt that shares its beginning with the last one, then leaves it.
    std::vector<int32_t> other(kPrompt.begin(), kPrompt.begin() + 6);
    EXPECT_LT(relative_error(pieces.generator->logits_after(other), whole(6)), 1e-5) << piece;
    other.push_back(1);
    pieces.generator->logits_after(other);
    EXPECT_LT(relative_error(pieces.generator->logits_after(kPrompt), whole(kPrompt.size())), 1e-5) << piece;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EveryFamily,
                         ::testing::Values("llama_a", "llama_tied", "llama_rope_llama3_v5", "mistral_a",
                                           "qwen2_a", "qwen2_window", "qwen3_a"),
                         [](const auto& model) { return std::string(model.param); });

TEST(Generator, EndsWhereTheCacheIsFull) {
  Loaded loaded(fixture("models/llama_a"), 16, 8);
  int64_t count = 0;
  const auto take = [&](int32_t) { return ++count > 0; };
  EXPECT_EQ(loaded.generator->generate(kPrompt, {.max_new_tokens = 100}, take), StopReason::capacity);
  EXPECT_EQ(count, 16 - static_cast<int64_t>(kPrompt.size()) + 1);  // the last one needs no place
  count = 0;
  EXPECT_EQ(loaded.generator->generate(kPrompt, {.max_new_tokens = 2}, take), StopReason::max_new_tokens);
  EXPECT_EQ(count, 2);
  EXPECT_EQ(loaded.generator->generate(kPrompt, {}, [](int32_t) { return false; }), StopReason::caller);
  EXPECT_THROW(loaded.generator->generate(std::vector<int32_t>(17, 1), {}, take), UserError);
  EXPECT_THROW(loaded.generator->generate(std::vector<int32_t>(), {}, take), UserError);
  EXPECT_THROW(loaded.generator->generate(std::vector<int32_t>{101}, {}, take),
               UserError);  // not in the vocabulary
}

TEST(Generator, StopsBeforeAStopToken) {
  Loaded loaded(fixture("models/llama_a"), 64, 8);
  std::vector<int32_t> ids;
  const auto take = [&](int32_t id) { return ids.push_back(id), true; };
  loaded.generator->generate(kPrompt, {.max_new_tokens = 8}, take);
  ASSERT_EQ(ids.size(), 8u);
  const std::vector<int32_t> all = ids;
  const size_t first = static_cast<size_t>(std::find(all.begin(), all.end(), all[4]) - all.begin());
  ids.clear();
  EXPECT_EQ(loaded.generator->generate(kPrompt, {.max_new_tokens = 8, .stop_ids = {all[4]}}, take),
            StopReason::stop_token);
  EXPECT_EQ(ids, std::vector<int32_t>(all.begin(), all.begin() + static_cast<int64_t>(first)));
}

TEST(Generator, TheSameSeedDrawsTheSameTokens) {
  Loaded loaded(fixture("models/llama_a"), 64, 8);
  const auto draw = [&](uint64_t seed) {
    std::vector<int32_t> ids;
    loaded.generator->generate(kPrompt, {.temperature = 1, .seed = seed, .max_new_tokens = 20},
                               [&](int32_t id) { return ids.push_back(id), true; });
    return ids;
  };
  const auto first = draw(1);
  EXPECT_EQ(draw(1), first);
  EXPECT_NE(draw(2), first);
}

const std::vector<float> kLogits = {0.0F, std::log(4.0F), std::log(2.0F), -1e30F, std::log(3.0F)};

TEST(Sampling, GreedyTakesTheFirstOfTheLikeliest) {
  EXPECT_EQ(sample_token(kLogits, {}, 0), 1);
  EXPECT_EQ(sample_token(std::vector<float>{1, 3, 3, 2}, {}, 0), 1);
}

TEST(Sampling, FollowsTheProbabilities) {
  std::map<int32_t, int> counts;
  for (int step = 0; step < 20000; ++step)
    ++counts[sample_token(kLogits, {.temperature = 1, .seed = 9}, step)];
  EXPECT_EQ(counts.count(3), 0u);
  // Five standard deviations of a share of 10,000 tokens are under 0.02.
  EXPECT_NEAR(counts[1] / 20000.0, 0.4, 0.02);
  EXPECT_NEAR(counts[4] / 20000.0, 0.3, 0.02);
  EXPECT_NEAR(counts[2] / 20000.0, 0.2, 0.02);
  EXPECT_NEAR(counts[0] / 20000.0, 0.1, 0.02);
}

std::set<int32_t> drawn(Sampling sampling) {
  std::set<int32_t> seen;
  for (int step = 0; step < 500; ++step) seen.insert(sample_token(kLogits, sampling, step));
  return seen;
}

TEST(Sampling, TopKAndTopPKeepTheLikeliest) {
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 1}), (std::set<int32_t>{1}));
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 2}), (std::set<int32_t>{1, 4}));
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 99}), (std::set<int32_t>{0, 1, 2, 4}));
  EXPECT_EQ(drawn({.temperature = 1, .top_p = 0.01}), (std::set<int32_t>{1}));
  EXPECT_EQ(drawn({.temperature = 1, .top_p = 0.39}), (std::set<int32_t>{1}));
  EXPECT_EQ(drawn({.temperature = 1, .top_p = 0.65}), (std::set<int32_t>{1, 4}));
  EXPECT_EQ(drawn({.temperature = 1, .top_p = 0.85}), (std::set<int32_t>{1, 2, 4}));
  EXPECT_EQ(drawn({.temperature = 1e-3}), (std::set<int32_t>{1}));
}

TEST(Stories, FirstLogitsAsTheReference) {
  const std::string folder = "models/stories260K";
  SERVAL_NEEDS_DATA(folder);
  Loaded loaded(test_data(folder + "/hf"), 16, 4);
  const std::string path = test_data(folder + "/reference_greedy.json");
  const Json reference = Json::parse(read_file(path), path);
  std::vector<int32_t> ids;
  const auto& rows = reference.at("logits").as_array();
  ASSERT_EQ(rows.size(), 8u);
  for (size_t i = 0; i < rows.size(); ++i) {
    ids.push_back(static_cast<int32_t>(reference.at("greedy_ids").as_array()[i].as_int()));
    std::vector<float> expected;
    for (const Json& value : rows[i].as_array()) expected.push_back(static_cast<float>(value.as_double()));
    const auto got = loaded.generator->logits_after(ids);
    ASSERT_EQ(got.size(), expected.size());
    EXPECT_LT(relative_error(got, expected), 1e-5) << i;
  }
}

}  // namespace
}  // namespace serval::testing
