#include "data/merge_columns.h"

#include <gtest/gtest.h>

#include <set>

#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::write_dataset;

std::unique_ptr<DatasetReader> merged(const std::string& rows, const MergeOptions& options) {
  return merge_columns(open_dataset(write_dataset(rows)), options);
}

std::string user_text(const std::string& row, const std::string& prompt) {
  return merged(row, {.prompt = prompt})->row(0).at("messages").as_array()[0].at("content").as_string();
}

TEST(MergeColumns, OptionalParts) {
  const std::string prompt = "{instruction}[[\nYour input is:\n{input}]][[ ({age})]]!";
  EXPECT_EQ(user_text(R"({"instruction": "Add", "input": "1 2", "age": 22.0, "output": "3"})", prompt),
            "Add\nYour input is:\n1 2 (22.0)!");
  EXPECT_EQ(user_text(R"({"instruction": "Add", "input": "", "age": 7, "output": "3"})", prompt), "Add (7)!");
  EXPECT_EQ(user_text(R"({"instruction": "Add", "input": null, "age": null, "output": "3"})", prompt),
            "Add!");
  EXPECT_EQ(user_text(R"({"a": true, "output": ""})", "] {a} ]]"), "] True ]]");
}

TEST(MergeColumns, OutputColumnAndMessages) {
  const auto rows = merged(R"({"q": "x", "Survived": 1})", {.prompt = "{q}", .output_column = "Survived"});
  EXPECT_EQ(rows->row(0).dump(),
            R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "1"}]})");
}

TEST(MergeColumns, ConversationsOfSeveralRows) {
  std::string content;
  for (int i = 0; i < 50; ++i) content += fmt::format("{{\"q\": \"q{}\", \"output\": \"a{}\"}}\n", i, i);
  const auto rows = merged(content, {.prompt = "{q}", .conversation_extension = 3, .seed = 5});
  ASSERT_EQ(rows->size(), 50);
  for (size_t turn = 0; turn < 3; ++turn) {
    std::set<std::string> seen;
    int in_place = 0;
    for (int64_t i = 0; i < 50; ++i) {
      const Json row = rows->row(i);
      const auto& messages = row.at("messages").as_array();
      ASSERT_EQ(messages.size(), 6u);
      const std::string text = messages[2 * turn].at("content").as_string();
      EXPECT_EQ("a" + text.substr(1), messages[2 * turn + 1].at("content").as_string());
      seen.insert(text);
      in_place += text == fmt::format("q{}", i);
    }
    EXPECT_EQ(seen.size(), 50u);  // every row once in each turn
    EXPECT_EQ(in_place == 50, turn == 0);
  }
  const auto again = merged(content, {.prompt = "{q}", .conversation_extension = 3, .seed = 5}),
             other = merged(content, {.prompt = "{q}", .conversation_extension = 3, .seed = 6});
  EXPECT_EQ(again->row(7), rows->row(7));
  bool differs = false;
  for (int64_t i = 0; i < 50; ++i) differs = differs || other->row(i) != rows->row(i);
  EXPECT_TRUE(differs);
}

TEST(MergeColumns, WrongPrompts) {
  const auto error = [](const std::string& prompt, const std::string& output = "o") {
    return error_of([&] { merged(R"({"a": "x", "o": "y"})", {.prompt = prompt, .output_column = output}); });
  };
  EXPECT_HAS(error("{b}"), "names the column 'b', which is missing; found columns: a, o");
  EXPECT_HAS(error("{a}", "p"), "output_column_name names the column 'p'");
  EXPECT_HAS(error("{a"), "has no '}'");
  EXPECT_HAS(error("[[{a}"), "has no ']]'");
  EXPECT_HAS(error("[[x]]{a}"), "names no {column}");
  EXPECT_HAS(error("[[{a} [[{a}]]"), "inside another");
  EXPECT_HAS(error("plain"), "names no {column}");
}

}  // namespace
}  // namespace serval
