// Generation with a cache: the same logits however the prompt was read, and draws that follow their settings.
#include "generate/generator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "models/pretrained.h"
#include "support/devices.h"
#include "support/model_logits.h"
#include "support/test_data.h"

namespace serval::testing {
namespace {

struct Loaded {
  std::shared_ptr<Device> device;
  Pretrained model;
  std::unique_ptr<Generator> generator;
  Loaded(const std::string& directory, int64_t capacity, int64_t prefill_tokens, int64_t sequences = 1,
         std::shared_ptr<Device> on = device_of(DeviceKind::cpu))
      : device(std::move(on)), model(Pretrained::open({.model = directory})) {
    generator = std::make_unique<Generator>(GeneratorOptions{.model = model.config(),
                                                             .network = model.network_options(),
                                                             .capacity = capacity,
                                                             .prefill_tokens = prefill_tokens,
                                                             .sequences = sequences},
                                            *device);
    model.load_weights(generator->parameters(), generator->states());
  }
};

using Prompts = std::vector<std::vector<int32_t>>;

struct Answers {
  Prompts ids;
  std::vector<StopReason> reasons;
  friend bool operator==(const Answers&, const Answers&) = default;
};

Answers answers_of(Generator& generator, const Prompts& prompts, const Sampling& sampling) {
  Answers answers{Prompts(prompts.size()), std::vector<StopReason>(prompts.size(), StopReason::caller)};
  std::vector<int> ends(prompts.size(), 0);
  generator.generate_all(
      prompts, sampling,
      [&](size_t prompt, int32_t id) {
        EXPECT_EQ(ends[prompt], 0);
        answers.ids[prompt].push_back(id);
        return true;
      },
      [&](size_t prompt, StopReason reason) {
        ++ends[prompt];
        answers.reasons[prompt] = reason;
      });
  for (const int count : ends) EXPECT_EQ(count, 1);
  return answers;
}

// Lengths differ, and two begin alike.
const Prompts kPrompts = {
    {3, 14, 15, 29, 65, 35, 8, 9, 61, 32, 38, 46, 26}, {7},      {50, 2, 61, 8, 28}, {3, 14, 15, 29, 1, 2},
    {27, 18, 28, 18, 28, 45, 9, 45, 23, 53, 60},       {11, 11}, {66, 1, 66}};

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

// As many sequences as prompts, fewer (newcomers take the places of those that ended) and more; pieces of a
// prompt, of several prompts, and whole prompts. Sampled answers end at stop tokens at different times.
TEST_P(EveryFamily, ABatchAnswersAsOneByOne) {
  const std::string directory = fixture(std::string("models/") + GetParam());
  const Sampling greedy{.max_new_tokens = 9};
  const Sampling drawn{.temperature = 1,
                       .top_p = 0.95,
                       .seed = 5,
                       .max_new_tokens = 12,
                       .stop_ids = {1, 5, 9, 20, 30, 40, 41, 42, 43, 60, 61, 62}};
  for (const auto& device : devices()) {
    SCOPED_TRACE(device->name());
    Loaded one(directory, 32, 8, 1, device);
    const Answers want_greedy = answers_of(*one.generator, kPrompts, greedy),
                  want_drawn = answers_of(*one.generator, kPrompts, drawn);
    std::vector<int32_t> first;
    one.generator->generate(kPrompts[0], drawn, [&](int32_t id) { return first.push_back(id), true; });
    EXPECT_EQ(first, want_drawn.ids[0]);
    const std::vector<std::pair<int64_t, int64_t>> sizes = {{3, 8}, {7, 64}, {2, 3}, {9, 5}, {3, 2}};
    for (const auto& [sequences, piece] : sizes) {
      SCOPED_TRACE(std::to_string(sequences) + " sequences, pieces of " + std::to_string(piece));
      Loaded batch(directory, 32, piece, sequences, device);
      const Prompts three(kPrompts.begin(), kPrompts.begin() + 3);
      EXPECT_EQ(answers_of(*batch.generator, three, greedy).ids,
                Prompts(want_greedy.ids.begin(), want_greedy.ids.begin() + 3));
      EXPECT_EQ(answers_of(*batch.generator, kPrompts, drawn), want_drawn);
      EXPECT_EQ(answers_of(*batch.generator, kPrompts, greedy), want_greedy);
    }
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

TEST(Generator, EachAnswerOfABatchEndsForItsOwnReason) {
  Loaded loaded(fixture("models/llama_a"), 16, 8, 2);
  const Answers all = answers_of(*loaded.generator, kPrompts, {.max_new_tokens = 8});
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    const size_t room = 16 - kPrompts[i].size() + 1;
    EXPECT_EQ(all.ids[i].size(), std::min<size_t>(8, room)) << i;
    EXPECT_EQ(all.reasons[i], room < 8 ? StopReason::capacity : StopReason::max_new_tokens) << i;
  }
  // The first token of one answer stops it at once, and whoever else says it.
  const Sampling stopped{.max_new_tokens = 8, .stop_ids = {all.ids[1][0]}};
  const Answers some = answers_of(*loaded.generator, kPrompts, stopped);
  EXPECT_TRUE(some.ids[1].empty());
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    const auto end = std::find(all.ids[i].begin(), all.ids[i].end(), stopped.stop_ids[0]);
    EXPECT_EQ(some.ids[i], std::vector<int32_t>(all.ids[i].begin(), end)) << i;
    EXPECT_EQ(some.reasons[i], end == all.ids[i].end() ? all.reasons[i] : StopReason::stop_token) << i;
  }
  // Whoever takes the tokens ends one answer; the others go on.
  Prompts taken(kPrompts.size());
  std::vector<StopReason> reasons(kPrompts.size());
  loaded.generator->generate_all(
      kPrompts, {.max_new_tokens = 4},
      [&](size_t prompt, int32_t id) { return taken[prompt].push_back(id), prompt != 2; },
      [&](size_t prompt, StopReason reason) { reasons[prompt] = reason; });
  EXPECT_EQ(taken[2].size(), 1u);
  EXPECT_EQ(reasons[2], StopReason::caller);
  EXPECT_EQ(taken[3].size(), 4u);

  EXPECT_EQ(answers_of(*loaded.generator, {}, {}).ids.size(), 0u);
  const Answers none = answers_of(*loaded.generator, kPrompts, {.max_new_tokens = 0});
  EXPECT_EQ(none.ids, Prompts(kPrompts.size()));
  // One prompt that does not fit is said before anything is answered.
  Prompts wrong = kPrompts;
  wrong.emplace_back(17, 1);
  const auto nobody = [](size_t, int32_t) { return ADD_FAILURE(), true; };
  EXPECT_THROW(loaded.generator->generate_all(wrong, {}, nobody, [](size_t, StopReason) {}), UserError);
}

TEST(Generator, DrawsDependOnThePromptsIndex) {
  Loaded loaded(fixture("models/llama_a"), 64, 8, 2);
  const Prompts same(3, kPrompt);
  const Answers drawn =
      answers_of(*loaded.generator, same, {.temperature = 1, .seed = 3, .max_new_tokens = 12});
  EXPECT_NE(drawn.ids[0], drawn.ids[1]);
  EXPECT_NE(drawn.ids[1], drawn.ids[2]);
  const Answers greedy = answers_of(*loaded.generator, same, {.max_new_tokens = 12});
  EXPECT_EQ(greedy.ids[0], greedy.ids[1]);
  EXPECT_EQ(greedy.ids[0], greedy.ids[2]);
}

TEST(Generator, ANaNIsAnErrorInEitherWayToChoose) {
  for (const double temperature : {0.0, 1.0}) {
    Loaded loaded(fixture("models/llama_a"), 64, 8, 2);
    const auto& state = loaded.generator->states().state("model.norm.weight");
    const std::vector<float> nan(static_cast<size_t>(state.shape.elements()), NAN);
    std::vector<std::byte> raw(static_cast<size_t>(state.bytes()));
    convert_elements(nan.data(), DType::f32, raw.data(), state.dtype, state.shape.elements());
    loaded.generator->states().write("model.norm.weight", raw.data());
    EXPECT_THROW(answers_of(*loaded.generator, kPrompts, {.temperature = temperature, .max_new_tokens = 3}),
                 UserError);
  }
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
