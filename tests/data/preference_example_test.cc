#include "data/preference_example.h"

#include <gtest/gtest.h>

#include "data/row_shape.h"
#include "data_test_tools.h"

namespace serval {
namespace {

using testing::fixture;
using testing::integers;

Json expected(const char* part) {
  const std::string path = fixture("data/expected.json");
  return Json::parse(read_file(path), path).at(part);
}

template <class Check>
void for_each_row(const Json& one_case, RowUse use, Check&& check) {
  SCOPED_TRACE(one_case.at("dataset").as_string() + " " + one_case.at("tokenizer").as_string());
  const std::string directory = fixture("data/" + one_case.at("tokenizer").as_string());
  const Tokenizer tokenizer = Tokenizer::from_directory(directory);
  const ChatTemplate chat_template = ChatTemplate::from_directory(directory);
  const auto rows = open_dataset(fixture("data/" + one_case.at("dataset").as_string()));
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true, .use = use});
  const auto& wanted = one_case.at("rows").as_array();
  ASSERT_EQ(rows->size(), static_cast<int64_t>(wanted.size()));
  for (int64_t i = 0; i < rows->size(); ++i) {
    SCOPED_TRACE(i);
    check(read_training_row(rows->row(i), shape, rows->where(i)), shape, tokenizer, chat_template,
          wanted[static_cast<size_t>(i)]);
  }
}

TEST(PreferenceExample, TokensAreThoseOfTrlsDpo) {
  const Json cases = expected("preference");
  EXPECT_EQ(cases.size(), 5u);
  for (const Json& one : cases.as_array())
    for_each_row(one, RowUse::preference,
                 [](const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                    const ChatTemplate& chat_template, const Json& wanted) {
                   const PreferenceIds ids = tokenize_preference(
                       std::get<PreferenceRow>(row.body), row.context, shape.chat, tokenizer, &chat_template);
                   EXPECT_EQ(ids.prompt, integers(wanted.at("prompt_ids")));
                   EXPECT_EQ(ids.chosen, integers(wanted.at("chosen_ids")));
                   EXPECT_EQ(ids.rejected, integers(wanted.at("rejected_ids")));
                 });
}

TEST(PreferenceExample, TokensAreThoseOfTrlsKto) {
  const Json cases = expected("unpaired");
  EXPECT_EQ(cases.size(), 3u);
  for (const Json& one : cases.as_array())
    for_each_row(one, RowUse::unpaired,
                 [](const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                    const ChatTemplate& chat_template, const Json& wanted) {
                   const auto& answer = std::get<UnpairedRow>(row.body);
                   const CompletionIds ids =
                       tokenize_unpaired(answer, row.context, shape.chat, tokenizer, &chat_template);
                   EXPECT_EQ(ids.prompt, integers(wanted.at("prompt_ids")));
                   EXPECT_EQ(ids.completion, integers(wanted.at("completion_ids")));
                   EXPECT_EQ(answer.desirable, wanted.at("label").as_bool());
                 });
}

TEST(PreferenceExample, PromptsEndWhereAModelGoesOn) {
  const std::string directory = fixture("data/tokenizer_plain");
  const Tokenizer tokenizer = Tokenizer::from_directory(directory);
  const ChatTemplate chat_template = ChatTemplate::from_directory(directory);
  const auto rows = open_dataset(fixture("data/chat_unpaired.jsonl"));
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true, .use = RowUse::prompts});
  const TrainingRow row = read_training_row(rows->row(0), shape, rows->where(0));
  EXPECT_TRUE(row.extra.contains("completion"));
  EXPECT_EQ(tokenizer.decode(tokenize_prompt(std::get<PromptRow>(row.body), row.context, shape.chat,
                                             tokenizer, &chat_template)),
            "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n");
}

TEST(PreferenceExample, AnswersAreCutAsInTrl) {
  const std::vector<int32_t> prompt = {1, 2, 3}, answer = {4, 5};
  const auto joined = [&](int64_t max_length, Truncation truncation) {
    return join_answer(prompt, answer, max_length, truncation);
  };
  EXPECT_EQ(joined(0, Truncation::keep_start)->ids, (std::vector<int32_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(joined(4, Truncation::keep_start)->ids, (std::vector<int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(joined(4, Truncation::keep_start)->prompt_tokens, 3);
  EXPECT_FALSE(joined(3, Truncation::keep_start));
  EXPECT_EQ(joined(4, Truncation::keep_end)->ids, (std::vector<int32_t>{2, 3, 4, 5}));
  EXPECT_EQ(joined(4, Truncation::keep_end)->prompt_tokens, 2);
  EXPECT_EQ(joined(1, Truncation::keep_end)->prompt_tokens, 0);
  EXPECT_FALSE(joined(4, Truncation::drop));
  EXPECT_TRUE(joined(5, Truncation::drop));
}

}  // namespace
}  // namespace serval
