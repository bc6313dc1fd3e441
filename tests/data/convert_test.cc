#include "data/convert.h"

#include <gtest/gtest.h>

#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::write_dataset;

Json convert(const std::string& row, ConvertTo to = ConvertTo::same) {
  const auto rows = open_dataset(write_dataset(Json::parse(row, "row").dump()));
  const DatasetShape shape =
      detect_shape(*rows, {.has_chat_template = true, .use = RowUse::any, .allow_media = true});
  return converted_row(read_training_row(rows->row(0), shape, rows->where(0)), shape, to, rows->where(0));
}

const char* const kRows[] = {
    R"({"text": "t"})",
    R"({"prompt": "p", "completion": "c"})",
    R"({"segments": [{"label": false, "text": "q"}, {"label": true, "text": "a"}]})",
    R"({"input_ids": [1, 2, 3], "labels": [-100, 2, 3]})",
    R"({"input_ids": [1, 2], "labels": [1, 2], "completion_mask": [false, true]})",
    R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]})",
    R"({"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]}]})",
    R"({"messages": [{"role": "user", "content": "q"}], "tools": [{"type": "function", "function": {"name": "f"}}],
        "chat_template_kwargs": {"enable_thinking": false}})",
    R"({"prompt": "p", "chosen": "c", "rejected": "r", "margin": 2.5})",
    R"({"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "c"}],
        "rejected": [{"role": "assistant", "content": "r"}], "chosen_score": 1.0, "rejected_score": 0.5})",
    R"({"prompt": "p", "completion": "c", "label": false})",
    R"({"prompt": [{"role": "user", "content": "q"}], "answer": 4})",
    R"({"prompt": "p", "completions": ["a", "b"], "labels": [true, false]})"};

// What is in a normal form already is written as it is.
TEST(Convert, NormalFormsStay) {
  for (const char* row : kRows) EXPECT_EQ(convert(row), Json::parse(row, "row")) << row;
}

TEST(Convert, OthersBecomeMessages) {
  EXPECT_EQ(convert(R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
      "system": "S", "id": 7})")
                .dump(),
            R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}, )"
            R"({"role": "assistant", "content": "a"}]})");
  EXPECT_EQ(convert(R"({"instruction": "i", "output": "o", "history": [["a", "b"]]})").dump(),
            R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )"
            R"({"role": "user", "content": "i"}, {"role": "assistant", "content": "o"}]})");
}

TEST(Convert, ToMessages) {
  const std::string expected =
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})";
  for (const char* row :
       {R"({"prompt": "q", "completion": "a"})", R"({"prompt": "q", "chosen": "a", "rejected": "b"})",
        R"({"prompt": "q", "completion": "a", "label": true})", R"({"instruction": "q", "output": "a"})"})
    EXPECT_EQ(convert(row, ConvertTo::messages).dump(), expected) << row;
  EXPECT_TRUE(
      convert(R"({"prompt": "q", "completion": "a", "label": false})", ConvertTo::messages).is_null());
  EXPECT_HAS(error_of([] { convert(R"({"text": "t"})", ConvertTo::messages); }),
             "a row of plain text cannot be written as messages");
  EXPECT_HAS(error_of([] { convert(R"({"input_ids": [1]})", ConvertTo::messages); }), "token ids");
}

TEST(Convert, ToPromptCompletion) {
  const std::string expected =
      R"({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]})";
  for (
      const char* row :
      {R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 1}]})",
       R"({"instruction": "q", "output": "a"})", R"({"prompt": "q", "chosen": "a", "rejected": "b"})"})
    EXPECT_EQ(convert(row, ConvertTo::prompt_completion).dump(), expected) << row;
  EXPECT_HAS(error_of([] {
               convert(R"({"messages": [{"role": "user", "content": "q"}]})", ConvertTo::prompt_completion);
             }),
             "does not end with the assistant's answer");
}

}  // namespace
}  // namespace serval
