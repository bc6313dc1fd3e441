#include "data/dataset.h"

#include <gtest/gtest.h>

#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::write_dataset;

std::string open_error(std::string_view content, const std::string& name = "rows.jsonl") {
  const std::string path = write_dataset(content, name);
  return error_of([&] {
    const auto rows = open_dataset(path);
    for (int64_t i = 0; i < rows->size(); ++i) rows->row(i);
  });
}

TEST(Dataset, JsonlSkipsBlankLinesAndCountsThem) {
  const auto rows = open_dataset(write_dataset("\xEF\xBB\xBF\n{\"a\": 1}\r\n\n  \t\n{\"a\": 2}"));
  ASSERT_EQ(rows->size(), 2);
  EXPECT_EQ(rows->row(0).at("a").as_int(), 1);
  EXPECT_EQ(rows->row(1).at("a").as_int(), 2);
  EXPECT_EQ(rows->where(1), rows->path() + ":5");
}

TEST(Dataset, JsonList) {
  const auto rows = open_dataset(write_dataset(
      "\xEF\xBB\xBF [\n {\"a\": \"[{,\\\"]\\\\\"},\n\n {\"a\": [1, {\"b\": \"}\"}]}\n,{\"a\":3}]\n \n",
      "rows.json"));
  ASSERT_EQ(rows->size(), 3);
  EXPECT_EQ(rows->row(0).at("a").as_string(), "[{,\"]\\");
  EXPECT_EQ(rows->row(1).at("a").size(), 2u);
  EXPECT_EQ(rows->row(2).at("a").as_int(), 3);
  EXPECT_EQ(rows->where(0), rows->path() + ":2");
  EXPECT_EQ(rows->where(1), rows->path() + ":4");
  EXPECT_EQ(rows->where(2), rows->path() + ":5");
}

TEST(Dataset, OneRow) {
  EXPECT_EQ(open_dataset(write_dataset("{\"text\": \"x\"}"))->size(), 1);
  EXPECT_EQ(open_dataset(write_dataset("[{\"text\": \"x\"}]"))->size(), 1);
}

TEST(Dataset, EmptyFiles) {
  EXPECT_HAS(open_error(""), "rows.jsonl: holds no rows");
  EXPECT_HAS(open_error(" \n\n"), "holds no rows");
  EXPECT_HAS(open_error("\xEF\xBB\xBF"), "holds no rows");
  EXPECT_HAS(open_error(" [ \n ] ", "rows.json"), "holds no rows");
}

TEST(Dataset, OtherFiles) {
  EXPECT_HAS(open_error(std::string_view("GGUF\x03\0\0\0", 8)), "it starts with 'GGUF'");
  EXPECT_HAS(open_error(std::string_view("\x80\0\x1b[", 4)), "\\x80\\x00\\x1b[");
  EXPECT_HAS(open_error("a,b\n1,2\n"), "neither JSONL");
  EXPECT_HAS(error_of([] { open_dataset("/nowhere/rows.jsonl"); }), "/nowhere/rows.jsonl");
}

TEST(Dataset, WrongRowsNameTheirLine) {
  EXPECT_HAS(open_error("{\"a\": 1}\n{\"a\": \n"), "rows.jsonl:2: not valid JSON");
  EXPECT_HAS(open_error("{\"a\": 1}\n\n[1]\n"), "rows.jsonl:3: expected a row");
  EXPECT_HAS(open_error("{\"a\": 1}\n{\"a\": 1, \"a\": 2}\n"), "rows.jsonl:2: not valid JSON");
  EXPECT_HAS(open_error("{\"a\": \"\xFF\"}\n"), "rows.jsonl:1: not valid JSON");
  EXPECT_HAS(open_error("[{\"a\": 1},\n 7]", "rows.json"), "rows.json:2: expected a row");
  EXPECT_HAS(open_error("[{\"a\": 1},\n {\"a\": tru}]", "rows.json"), "rows.json:2: not valid JSON");
  EXPECT_HAS(open_error("[{\"a\": 1},,{}]", "rows.json"), "not valid JSON");
  EXPECT_HAS(open_error("[{\"a\": 1},]", "rows.json"), "not valid JSON");
}

TEST(Dataset, TruncatedListsAtEveryByte) {
  const std::string whole = "[{\"a\": \"x\\\"y\"},\n{\"a\": [1, 2]}]";
  for (size_t size = 1; size < whole.size(); ++size)
    EXPECT_HAS(open_error(whole.substr(0, size), "rows.json"), "ends inside its list of rows") << size;
  EXPECT_HAS(open_error(whole + "]", "rows.json"), "more after the end");
  EXPECT_HAS(open_error("[{\"a\": 1}}]", "rows.json"), "unexpected '}'");
}

TEST(Dataset, DeepNestingIsAnError) {
  const std::string deep = "{\"a\": " + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_HAS(open_error(deep), "rows.jsonl:1: not valid JSON");
  EXPECT_HAS(open_error("[" + deep + "]", "rows.json"), "rows.json:1: not valid JSON");
}

}  // namespace
}  // namespace serval
