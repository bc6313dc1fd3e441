#include "data/example.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/parallel.h"
#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::fixture;
using testing::write_dataset;

struct Model {
  explicit Model(const std::string& directory)
      : tokenizer(Tokenizer::from_directory(directory)),
        chat_template(ChatTemplate::from_directory(directory)) {}
  Tokenizer tokenizer;
  ChatTemplate chat_template;
};

TokenizedData tokenize(const std::string& path, const Model& model, const ExampleOptions& options,
                       const TokenizeProgress& progress = {}) {
  const auto rows = open_dataset(path);
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
  return tokenize_dataset(*rows, shape, model.tokenizer, &model.chat_template, options, progress);
}

ExampleOptions options_of(const Json& json) {
  ExampleOptions options;
  for (const auto& [name, value] : json.as_object()) {
    if (name == "max_length") options.max_length = value.as_int();
    if (name == "assistant_only_loss") options.assistant_only_loss = value.as_bool();
    if (name == "completion_only_loss") options.completion_only_loss = value.as_bool();
  }
  return options;
}

std::vector<int32_t> labels_of(const Examples& examples, int64_t example) {
  std::vector<int32_t> labels(examples.ids(example).begin(), examples.ids(example).end());
  for (size_t i = 0; i < labels.size(); ++i)
    if (!examples.trained(example, static_cast<int64_t>(i))) labels[i] = -100;
  return labels;
}

std::vector<int32_t> integers(const Json& json) {
  std::vector<int32_t> result;
  for (const Json& value : json.as_array()) result.push_back(static_cast<int32_t>(value.as_int()));
  return result;
}

Json expected_cases() {
  const std::string path = fixture("data/expected.json");
  return Json::parse(read_file(path), path).at("cases");
}

TEST(Example, TokensAndLabelsAreTrls) {
  const Json cases = expected_cases();
  for (const auto& [name, expected] : cases.as_object()) {
    SCOPED_TRACE(name);
    const Model model(fixture("data/" + expected.at("tokenizer").as_string()));
    const TokenizedData data = tokenize(fixture("data/" + expected.at("dataset").as_string()), model,
                                        options_of(expected.at("options")));
    const auto& rows = expected.at("rows").as_array();
    ASSERT_EQ(data.examples.size(), static_cast<int64_t>(rows.size()));
    EXPECT_EQ(data.statistics.rows, data.statistics.examples + data.statistics.dropped);
    for (int64_t i = 0; i < data.examples.size(); ++i) {
      SCOPED_TRACE(i);
      const Json& row = rows[static_cast<size_t>(i)];
      const auto ids = data.examples.ids(i);
      EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()), integers(row.at("input_ids")));
      if (name == "straddle") continue;  // the next test
      EXPECT_EQ(labels_of(data.examples, i), integers(row.at("labels")));
    }
  }
}

// Where one token holds letters of prompt and completion, TRL trains it and we do not; nothing else differs.
TEST(Example, TokensAcrossTheBoundaryAreMasked) {
  const Json expected = expected_cases().at("straddle");
  const Model model(fixture("data/tokenizer_plain"));
  const TokenizedData data = tokenize(fixture("data/straddle.jsonl"), model, {});
  EXPECT_EQ(data.statistics.boundary_mismatches, 2);
  ASSERT_EQ(data.notes.size(), 1u);
  EXPECT_HAS(data.notes[0], "in 2 rows the prompt has other tokens alone");
  for (int64_t i = 0; i < 2; ++i) {
    std::vector<int32_t> trl = integers(expected.at("rows").as_array()[static_cast<size_t>(i)].at("labels"));
    const auto first = std::find_if(trl.begin(), trl.end(), [](int32_t label) { return label != -100; });
    ASSERT_NE(first, trl.end());
    *first = -100;
    EXPECT_EQ(labels_of(data.examples, i), trl);
  }
}

TEST(Example, StatisticsAndNotes) {
  const Model model(fixture("data/tokenizer_plain"));
  const TokenizedData data = tokenize(fixture("data/prompt_completion.jsonl"), model, {.max_length = 24});
  EXPECT_EQ(data.statistics.rows, 7);
  EXPECT_EQ(data.statistics.dropped, 1);
  EXPECT_GE(data.statistics.truncated, 1);
  EXPECT_EQ(data.statistics.tokens, data.examples.num_tokens());
  EXPECT_EQ(data.statistics.labels, data.examples.num_labels());
  EXPECT_LE(data.statistics.longest, 24);
  ASSERT_GE(data.notes.size(), 2u);
  EXPECT_HAS(data.notes[0], "longer than max_length 24");
  EXPECT_HAS(data.notes[1], "1 of 7 rows are left out");
  EXPECT_HAS(data.statistics.text(), "6 examples of 7 rows");
}

TEST(Example, ThreadsChangeNothing) {
  std::string content;
  for (int i = 0; i < 3000; ++i)
    content +=
        "{\"text\": \"" + std::string(static_cast<size_t>(1 + i % 40), 'a') + std::to_string(i) + "\"}\n";
  const std::string path = write_dataset(content);
  const Model model(fixture("data/tokenizer_plain"));
  const auto run = [&](int threads) {
    set_num_threads(threads);
    std::vector<int64_t> calls;
    TokenizedData data = tokenize(path, model, {}, [&](int64_t done, int64_t total) {
      EXPECT_EQ(total, 3000);
      EXPECT_TRUE(calls.empty() || calls.back() < done);
      calls.push_back(done);
    });
    EXPECT_EQ(calls.back(), 3000);
    set_num_threads(0);
    return data;
  };
  const TokenizedData one = run(1), three = run(3);
  ASSERT_EQ(one.examples.size(), 3000);
  for (int64_t i = 0; i < 3000; ++i) EXPECT_EQ(labels_of(one.examples, i), labels_of(three.examples, i));
}

TEST(Example, TheFirstWrongRowIsReported) {
  std::string content;
  for (int i = 0; i < 2000; ++i)
    content += i % 700 == 650 ? "{\"text\": 5}\n" : "{\"text\": \"some text\"}\n";
  const std::string path = write_dataset(content);
  const Model model(fixture("data/tokenizer_plain"));
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    EXPECT_HAS(error_of([&] { tokenize(path, model, {}); }),
               "rows.jsonl:651: 'text' must be text but is integer");
  }
  set_num_threads(0);
}

TEST(Example, OneTokenDocumentsAreLeftOut) {
  const Model model(fixture("data/tokenizer_plain"));
  const TokenizedData data = tokenize(write_dataset("{\"text\": \"\"}\n{\"text\": \"a\"}\n"), model, {});
  EXPECT_EQ(data.examples.size(), 1);
  EXPECT_EQ(data.statistics.dropped, 1);
  EXPECT_EQ(data.statistics.labels, 1);
  const std::string path = write_dataset("{\"text\": \"\"}\n");
  EXPECT_HAS(error_of([&] { tokenize(path, model, {}); }), "none of its 1 rows has a token to train on");
}

TEST(Example, RefusedOptions) {
  const Model model(fixture("data/tokenizer_plain"));
  const auto error = [&](const std::string& data, const ExampleOptions& options) {
    return error_of([&] { tokenize(fixture("data/" + data), model, options); });
  };
  EXPECT_HAS(error("text.jsonl", {.assistant_only_loss = true}), "assistant_only_loss needs conversations");
  EXPECT_HAS(error("messages.jsonl", {.completion_only_loss = true}),
             "completion_only_loss needs rows with a prompt");
  const auto rows = open_dataset(fixture("data/messages.jsonl"));
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
  const ChatTemplate plain("{{ messages[0].content }}", Json::object(), "plain.jinja");
  EXPECT_HAS(error_of([&] {
               tokenize_dataset(*rows, shape, model.tokenizer, &plain, {.assistant_only_loss = true});
             }),
             "{% generation %}");
  const ChatTemplate refusing("{{ raise_exception('roles must alternate') }}", Json::object(),
                              "refusing.jinja");
  const std::string refused =
      error_of([&] { tokenize_dataset(*rows, shape, model.tokenizer, &refusing, {}); });
  EXPECT_HAS(refused, "messages.jsonl:1: ");
  EXPECT_HAS(refused, "roles must alternate");
}

}  // namespace
}  // namespace serval
