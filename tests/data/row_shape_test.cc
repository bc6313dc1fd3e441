#include "data/row_shape.h"

#include <gtest/gtest.h>

#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::write_dataset;

DatasetShape shape_of(const std::string& row, const ShapeOptions& options = {.has_chat_template = true}) {
  return detect_shape(*open_dataset(write_dataset(row)), options);
}

TrainingRow read(const std::string& row, const ShapeOptions& options = {.has_chat_template = true}) {
  const auto rows = open_dataset(write_dataset(row));
  return read_training_row(rows->row(0), detect_shape(*rows, options), rows->where(0));
}

TEST(RowShape, Messages) {
  const std::string row = R"({"id": 3, "messages": [{"role": "user", "content": "hi"},
      {"role": "assistant", "content": null, "tool_calls": []}], "tools": "[{\"name\": \"f\"}]",
      "chat_template_kwargs": {"enable_thinking": false}})";
  const std::string line = Json::parse(row, "row").dump();
  const DatasetShape shape = shape_of(line);
  EXPECT_EQ(shape.shape, RowShape::messages);
  EXPECT_TRUE(shape.chat);
  EXPECT_HAS(shape.explanation, "1 rows of conversations (column messages); not read: id");
  const Json conversation = read(line).conversation;
  EXPECT_EQ(conversation.at("messages").size(), 2u);
  EXPECT_EQ(conversation.at("tools").as_array()[0].at("name").as_string(), "f");
  EXPECT_FALSE(conversation.at("enable_thinking").as_bool());
  EXPECT_FALSE(conversation.contains("id"));
}

TEST(RowShape, AlpacaBecomesMessages) {
  const std::string line =
      R"({"instruction": "Add", "input": "1 2", "output": "3", "system": "S", "text": "x"})";
  const DatasetShape shape = shape_of(line);
  EXPECT_EQ(shape.shape, RowShape::alpaca);
  EXPECT_HAS(shape.explanation, "chat template");
  EXPECT_HAS(shape.explanation, "not read: text");
  const TrainingRow row = read(line);
  EXPECT_EQ(row.prompt_messages, 2);
  EXPECT_EQ(row.conversation.dump(),
            R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Add\n1 2"}, )"
            R"({"role": "assistant", "content": "3"}]})");
  const TrainingRow short_row = read(R"({"instruction": "Add", "input": "", "output": "3"})");
  EXPECT_EQ(short_row.conversation.dump(),
            R"({"messages": [{"role": "user", "content": "Add"}, {"role": "assistant", "content": "3"}]})");
}

TEST(RowShape, AlpacaWithoutTemplateIsThePromptText) {
  const DatasetShape shape = shape_of(R"({"instruction": "Add", "output": "3"})", {});
  EXPECT_FALSE(shape.chat);
  EXPECT_HAS(shape.explanation, "Alpaca prompt format");
  const TrainingRow row = read(R"({"instruction": "Add", "input": "1 2", "output": "3"})", {});
  EXPECT_EQ(
      row.prompt,
      "Below is an instruction that describes a task, paired with an input that provides further context. "
      "Write "
      "a response that appropriately completes the request.\n\n### Instruction:\nAdd\n\n### Input:\n1 2\n\n"
      "### Response:\n");
  EXPECT_EQ(row.completion, "3");
  EXPECT_EQ(
      read(R"({"instruction": "Add", "input": null, "output": "3"})", {}).prompt,
      "Below is an instruction that describes a task. Write a response that appropriately completes the "
      "request.\n\n### Instruction:\nAdd\n\n### Response:\n");
}

TEST(RowShape, PromptCompletionAndText) {
  const TrainingRow text = read(R"({"prompt": "p", "completion": "c"})");
  EXPECT_EQ(text.prompt, "p");
  EXPECT_EQ(text.completion, "c");
  EXPECT_TRUE(text.conversation.is_null());
  const TrainingRow chat = read(R"({"prompt": [{"role": "user", "content": "p"}], )"
                                R"("completion": [{"role": "assistant", "content": "c"}]})");
  EXPECT_EQ(chat.prompt_messages, 1);
  EXPECT_EQ(chat.conversation.at("messages").size(), 2u);
  EXPECT_EQ(read(R"({"text": "t"})").completion, "t");
  EXPECT_EQ(read(R"({"messages": 1, "body": "t"})", {.text_field = "body"}).completion, "t");
  // The prompt of a conversation beside it is no shape of its own.
  EXPECT_EQ(shape_of(R"({"prompt": "p", "messages": [{"role": "user", "content": "p"}]})").shape,
            RowShape::messages);
}

TEST(RowShape, WrongColumns) {
  const auto error = [](const std::string& row, const ShapeOptions& options = {.has_chat_template = true}) {
    return error_of([&] { shape_of(row, options); });
  };
  EXPECT_HAS(error(R"({"question": "q", "answer": "a"})"),
             "question, answer; known are: messages; prompt + completion");
  EXPECT_HAS(error("{}"), "no known kind of dataset: none");
  EXPECT_HAS(error(R"({"messages": [], "instruction": "", "output": ""})"), "two kinds of dataset");
  EXPECT_HAS(error(R"({"text": "t"})", {.text_field = "body"}), "no column 'body'");
  EXPECT_HAS(error(R"({"text": 3})"), "rows.jsonl:1: 'text' must be text but is integer");
  EXPECT_HAS(error(R"({"prompt": "p", "completion": null})"), "'completion' must be text but is null");
  EXPECT_HAS(error(R"({"prompt": [{"role": "user", "content": "p"}], "completion": "c"})"),
             "'completion' must be a list of messages but is string");
  EXPECT_HAS(error(R"({"messages": "hi"})"), "must be a list of messages but is string");
  EXPECT_HAS(error(R"({"messages": []})"), "empty list");
  EXPECT_HAS(error(R"({"messages": [3]})"), "'messages[0]' must be an object");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}, {"from": "gpt"}]})"),
             "'messages[1]' needs a 'role'");
  EXPECT_HAS(error(R"({"messages": [{"role": "user"}]})"), "needs 'content'");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": 5}]})"),
             "must be text or a list of parts but is integer");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}], "images": ["a.png"]})"),
             "'images' asks for");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}], "tools": "[{"})"),
             "column 'tools': not valid JSON");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}]})", {}), "has no chat template");
  EXPECT_HAS(error(R"({"instruction": 1, "output": "x"})"), "'instruction' must be text but is integer");
}

TEST(RowShape, LaterRowsAreCheckedToo) {
  const auto rows = open_dataset(write_dataset("{\"text\": \"a\"}\n{\"body\": \"b\"}\n"));
  const DatasetShape shape = detect_shape(*rows, {});
  EXPECT_HAS(error_of([&] { read_training_row(rows->row(1), shape, rows->where(1)); }),
             "rows.jsonl:2: the column 'text' is missing; found columns: body");
}

}  // namespace
}  // namespace serval
