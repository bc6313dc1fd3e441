#include "data/group_example.h"

#include <gtest/gtest.h>

#include <cmath>

#include "data/batch_stream.h"
#include "data/prepare.h"
#include "data/preview.h"
#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::fixture;
using testing::integers;
using testing::write_dataset;

struct Model {
  explicit Model(const std::string& name = "tokenizer_plain")
      : directory(fixture("data/" + name)),
        tokenizer(Tokenizer::from_directory(directory)),
        chat_template(ChatTemplate::from_directory(directory)) {}
  std::string directory;
  Tokenizer tokenizer;
  ChatTemplate chat_template;

  TokenizedData operator()(const std::string& path, RowUse use, const ExampleOptions& options = {}) const {
    const auto rows = open_dataset(path);
    const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true, .use = use});
    return tokenize_groups(*rows, shape, tokenizer, &chat_template, options);
  }
};

std::vector<int32_t> ids_of(const Examples& examples, int64_t i) {
  return {examples.ids(i).begin(), examples.ids(i).end()};
}
// The prompt and the trained rest of a document.
std::pair<std::vector<int32_t>, std::vector<int32_t>> parts_of(const Examples& examples, int64_t i) {
  std::vector<int32_t> prompt, answer;
  for (int64_t t = 0; t < examples.length(i); ++t)
    (examples.trained(i, t) ? answer : prompt).push_back(examples.ids(i)[static_cast<size_t>(t)]);
  return {prompt, answer};
}
std::vector<double> values_of(const Examples& examples, int64_t i) {
  return {examples.values(i).begin(), examples.values(i).end()};
}

Json expected(const char* part) {
  const std::string path = fixture("data/expected.json");
  return Json::parse(read_file(path), path).at(part);
}

TEST(GroupExample, PairsAreThoseOfTrlsDpo) {
  const Json cases = expected("preference");
  for (const Json& one : cases.as_array()) {
    SCOPED_TRACE(one.at("dataset").as_string());
    const Model model(one.at("tokenizer").as_string());
    const Examples pairs =
        model(fixture("data/" + one.at("dataset").as_string()), RowUse::preference).examples;
    const auto& rows = one.at("rows").as_array();
    ASSERT_EQ(pairs.size(), 2 * static_cast<int64_t>(rows.size()));
    for (int64_t i = 0; i < pairs.size(); ++i) {
      const Json& row = rows[static_cast<size_t>(i / 2)];
      const auto [prompt, answer] = parts_of(pairs, i);
      EXPECT_EQ(prompt, integers(row.at("prompt_ids")));
      EXPECT_EQ(answer, integers(row.at(i % 2 == 0 ? "chosen_ids" : "rejected_ids")));
      EXPECT_EQ(pairs.values(i)[0], static_cast<double>(i / 2));
    }
  }
}

TEST(GroupExample, VerdictsAreThoseOfTrlsKto) {
  const Json cases = expected("unpaired");
  for (const Json& one : cases.as_array()) {
    SCOPED_TRACE(one.at("dataset").as_string());
    const Model model(one.at("tokenizer").as_string());
    const Examples answers =
        model(fixture("data/" + one.at("dataset").as_string()), RowUse::unpaired).examples;
    const auto& rows = one.at("rows").as_array();
    ASSERT_EQ(answers.size(), static_cast<int64_t>(rows.size()));
    for (int64_t i = 0; i < answers.size(); ++i) {
      const Json& row = rows[static_cast<size_t>(i)];
      const auto [prompt, answer] = parts_of(answers, i);
      EXPECT_EQ(prompt, integers(row.at("prompt_ids")));
      EXPECT_EQ(answer, integers(row.at("completion_ids")));
      EXPECT_EQ(values_of(answers, i),
                (std::vector<double>{static_cast<double>(i), row.at("label").as_bool() ? 1.0 : 0.0}));
    }
  }
}

// TRL's PRM: prompt, then each step with a line break, whose last token carries the verdict.
TEST(GroupExample, Steps) {
  const Model model;
  const std::string path =
      write_dataset(R"({"prompt": "the cat", "completions": [" le chat", "No."], "labels": [true, false]})"
                    "\n");
  const auto encode = [&](const char* text) {
    return model.tokenizer.encode(text, {.add_special_tokens = false}).ids;
  };
  std::vector<int32_t> ids = {*model.tokenizer.bos_id()};
  const auto prompt = encode("the cat");
  ids.insert(ids.end(), prompt.begin(), prompt.end());
  std::vector<int64_t> ends;
  for (const char* text : {" le chat", "\n", "No.", "\n"}) {
    const auto more = encode(text);
    ids.insert(ids.end(), more.begin(), more.end());
    if (*text == '\n') ends.push_back(static_cast<int64_t>(ids.size()) - 1);
  }
  const Examples steps = model(path, RowUse::stepwise).examples;
  ASSERT_EQ(steps.size(), 1);
  EXPECT_EQ(ids_of(steps, 0), ids);
  for (int64_t t = 0; t < steps.length(0); ++t)
    EXPECT_EQ(steps.trained(0, t), t == ends[0] || t == ends[1]) << t;
  EXPECT_EQ(values_of(steps, 0), (std::vector<double>{0, 1, 0}));
  // Cut behind the first step, before the first step's end, and from the front.
  const Examples first = model(path, RowUse::stepwise, {.max_length = ends[0] + 2}).examples;
  EXPECT_EQ(values_of(first, 0), (std::vector<double>{0, 1}));
  EXPECT_HAS(error_of([&] { model(path, RowUse::stepwise, {.max_length = ends[0]}); }),
             "none of its 1 rows is kept");
  const Examples last =
      model(path, RowUse::stepwise, {.max_length = 3, .truncation = Truncation::keep_end}).examples;
  EXPECT_EQ(values_of(last, 0), (std::vector<double>{0, 0}));
  EXPECT_HAS(
      error_of([&] { model(path, RowUse::stepwise, {.max_length = 3, .truncation = Truncation::refuse}); }),
      "rows.jsonl:1: the row has more tokens than max_length 3");
}

TEST(GroupExample, PromptsAndScores) {
  const Model model;
  const Examples prompts =
      model(write_dataset(R"({"prompt": [{"role": "user", "content": "the cat"}], "answer": 42})"
                          "\n"),
            RowUse::prompts)
          .examples;
  EXPECT_EQ(model.tokenizer.decode(prompts.ids(0)),
            "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(prompts.num_labels(), 0);
  EXPECT_EQ(values_of(prompts, 0), std::vector<double>{0});
  const Examples pairs =
      model(
          write_dataset(
              R"({"prompt": "the cat", "chosen": " sat", "rejected": " ran", "margin": 0.5, "chosen_score": 3})"
              "\n"),
          RowUse::preference)
          .examples;
  EXPECT_EQ(values_of(pairs, 0), (std::vector<double>{0, 0.5, 3}));
  EXPECT_EQ(pairs.values(1)[1], 0.5);
  EXPECT_TRUE(std::isnan(pairs.values(1)[2]));
  EXPECT_HAS(preview_examples(pairs, model.tokenizer, 1, false, RowKind::preference),
             "--- example 1 chosen: ");
  EXPECT_HAS(preview_examples(pairs, model.tokenizer, 1, false, RowKind::preference),
             "--- example 1 rejected: ");
}

// Many pairs, some of which are left out whole.
std::string many_pairs(int rows) {
  std::string text;
  for (int i = 0; i < rows; ++i)
    text += fmt::format(R"({{"prompt": "{}", "chosen": " sat {}", "rejected": " ran"}})"
                        "\n",
                        std::string(i % 5 == 3 ? 200 : 1 + static_cast<size_t>(i) % 7, 'x'), i);
  return write_dataset(text);
}

TEST(GroupExample, TheStreamKeepsPairsTogether) {
  const Model model;
  const TokenizedData data = model(many_pairs(23), RowUse::preference, {.max_length = 40});
  EXPECT_EQ(data.statistics.dropped, 4);
  EXPECT_EQ(data.examples.size(), 38);
  const BatchOptions options{
      .batch_size = 3, .accumulation = 2, .group_size = documents_of(RowKind::preference), .seed = 5};
  BatchStream stream(data.examples, options);
  EXPECT_EQ(stream.num_rows(), 19);
  std::vector<bool> seen(19, false);
  std::optional<Json> state;
  std::optional<StepBatch> after;
  for (int64_t step = 0; step < stream.steps_per_epoch(); ++step) {
    if (step == 1) state = stream.state();
    const StepBatch batch = stream.next();
    if (step == 1) after = batch;
    for (const MicroBatch& micro : batch.micro_batches) {
      EXPECT_LE(micro.num_documents(), 6);
      ASSERT_EQ(micro.documents.size(), static_cast<size_t>(micro.num_documents()));
      for (size_t d = 0; d < micro.documents.size(); d += 2) {
        EXPECT_EQ(micro.documents[d] + 1, micro.documents[d + 1]);
        EXPECT_EQ(data.examples.values(micro.documents[d])[0],
                  data.examples.values(micro.documents[d + 1])[0]);
        const auto pair = static_cast<size_t>(micro.documents[d] / 2);
        EXPECT_FALSE(seen[pair]);
        seen[pair] = true;
      }
    }
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 19);
  BatchStream resumed(data.examples, options);
  resumed.restore(*state, "state");
  EXPECT_EQ(resumed.next(), *after);
}

TEST(GroupExample, FromTheCacheAsFromTheRows) {
  const Model model;
  const std::string path = many_pairs(300);
  const std::string cache = path + "-cache";
  const auto prepare = [&] {
    return prepare_dataset({.path = path}, {.tokenizer = model.tokenizer,
                                            .chat_template = &model.chat_template,
                                            .fingerprint = "x",
                                            .shape = {.has_chat_template = true, .use = RowUse::preference},
                                            .examples = {.max_length = 40},
                                            .cache = DataCache({.directory = cache})});
  };
  const TokenizedData plain = model(path, RowUse::preference, {.max_length = 40});
  for (const bool cached : {false, true}) {
    const PreparedData data = prepare();
    EXPECT_EQ(data.from_cache, cached);
    EXPECT_EQ(data.kind, RowKind::preference);
    ASSERT_EQ(data.examples.size(), plain.examples.size());
    EXPECT_EQ(data.statistics.dropped, plain.statistics.dropped);
    for (int64_t i = 0; i < plain.examples.size(); ++i) {
      EXPECT_EQ(parts_of(data.examples, i), parts_of(plain.examples, i));
      EXPECT_EQ(values_of(data.examples, i)[0], values_of(plain.examples, i)[0]);
      EXPECT_EQ(data.examples.values(i).size(), 3u);
    }
  }
}

TEST(GroupExample, MasksOfConversationsAreRefused) {
  const Model model;
  EXPECT_HAS(error_of([&] {
               model(fixture("data/chat_preference.jsonl"), RowUse::preference,
                     {.mask = {.assistant_only_loss = true}});
             }),
             "do not go with");
}

}  // namespace
}  // namespace serval
