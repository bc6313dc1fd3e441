// Containers: each kind of file gives the rows that its twin in JSONL gives.
#include <gtest/gtest.h>

#include "data/dataset.h"
#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::fixture;
using testing::scratch_directory;
using testing::write_dataset;

std::string table(const std::string& name) {
  return fixture("data/tables/" + name);
}

std::vector<Json> rows_of(const DatasetReader& reader) {
  std::vector<Json> rows;
  for (int64_t i = 0; i < reader.size(); ++i) rows.push_back(reader.row(i));
  return rows;
}

std::vector<Json> read(const DatasetSource& source) {
  return rows_of(*open_dataset(source, DataCache({.directory = scratch_directory() + "/cache"})));
}

std::vector<Json> read_text(std::string_view content, const std::string& name, DatasetSource source = {}) {
  source.path = write_dataset(content, name);
  return rows_of(*open_dataset(source, DataCache()));
}

std::string csv_error(std::string_view content, const std::string& name = "a.csv") {
  return error_of([&] { read_text(content, name); });
}

TEST(Csv, EqualsPythons) {
  const Json cases = Json::parse(read_file(table("csv.json")), "csv.json");
  for (const Json& one : cases.as_array()) {
    const auto& expected = one.at("rows").as_array();
    const std::string& text = one.at("text").as_string();
    if (expected.empty()) continue;
    const auto rows = read_text(text, "a.csv", {.delimiter = one.at("delimiter").as_string()});
    ASSERT_EQ(rows.size(), expected.size()) << text;
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto& columns = one.at("columns").as_array();
      for (size_t c = 0; c < columns.size(); ++c) {
        const Json& value = rows[i].at(columns[c].as_string());
        const std::string& wanted = expected[i].as_array()[c].as_string();
        EXPECT_EQ(value.is_null() ? std::string() : value.as_string(), wanted) << text;
      }
    }
  }
}

TEST(Csv, TypesFollowTheColumnNotTheValue) {
  const auto rows = read_text(
      "\xEF\xBB\xBF"
      "text,label,messages,prompt,empty\n"
      "007,true,\"[{\"\"role\"\": \"\"user\"\"}]\",[1] is a list,\n"
      "1e5,False,none,\"{oops\",\"\"\n\n"
      "NA,yes\n",
      "a.csv");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].at("text").as_string(), "007");
  EXPECT_EQ(rows[1].at("text").as_string(), "1e5");
  EXPECT_EQ(rows[2].at("text").as_string(), "NA");
  EXPECT_TRUE(rows[0].at("label").as_bool());
  EXPECT_FALSE(rows[1].at("label").as_bool());
  EXPECT_EQ(rows[2].at("label").as_string(), "yes");
  EXPECT_EQ(rows[0].at("messages").as_array().size(), 1u);
  EXPECT_EQ(rows[1].at("messages").as_string(), "none");
  EXPECT_EQ(rows[0].at("prompt").as_string(), "[1] is a list");
  EXPECT_EQ(rows[1].at("prompt").as_string(), "{oops");
  EXPECT_TRUE(rows[0].at("empty").is_null());
  EXPECT_EQ(rows[1].at("empty").as_string(), "");
  EXPECT_TRUE(rows[2].at("empty").is_null());  // fields left out at the end
}

TEST(Csv, HostileFiles) {
  EXPECT_HAS(csv_error("a,b\n1,2,3\n"), "a.csv:2: has 3 fields, but the first line names 2 columns");
  EXPECT_HAS(csv_error("a,b\n1,2\n\"open,3\n4,5\n"),
             "a.csv:3: the quoted field that begins on this line is never closed");
  EXPECT_HAS(csv_error("a,a\n1,2\n"), "named twice");
  EXPECT_HAS(csv_error("a,\n1,2\n"), "column 2 has no name");
  EXPECT_HAS(csv_error("\"a\n"), "never closed");
  EXPECT_HAS(csv_error(""), "holds no rows");
  EXPECT_HAS(csv_error("a,b\n\n"), "holds no rows");
  EXPECT_HAS(csv_error(std::string_view("a,b\n1,\0002\n", 9)), "zero bytes");
  EXPECT_HAS(csv_error("\xFF\xFE"
                       "a,b\n"),
             "UTF-16");
  EXPECT_HAS(error_of([] { read_text("a\n1\n", "a.csv", {.delimiter = "ab"}); }), "expected one character");
}

TEST(Csv, LineBreaksOfAllKinds) {
  for (const char* text : {"a,b\r1,2\r3,4", "a,b\r\n1,2\r3,4\n", "a,b\n\r\n1,2\r\r3,4\r\n\r"}) {
    const auto rows = read_text(text, "a.csv");
    ASSERT_EQ(rows.size(), 2u) << text;
    EXPECT_EQ(rows[0].at("b").as_string(), "2");
    EXPECT_EQ(rows[1].at("a").as_string(), "3");
    EXPECT_EQ(rows[1].at("b").as_string(), "4");
  }
  const auto quoted = read_text("a\n\"x\r\ny\rz\"\r\"q\"\"\"w\r\n", "a.csv");
  ASSERT_EQ(quoted.size(), 2u);
  EXPECT_EQ(quoted[0].at("a").as_string(), "x\r\ny\rz");
  EXPECT_EQ(quoted[1].at("a").as_string(), "q\"w");
}

TEST(Csv, OtherSeparatorsAndOtherBytes) {
  EXPECT_HAS(csv_error("a;b\n1;2\n"),
             "a.csv:1: \"a;b\" is one column where fields are apart by ','; set delimiter to ';'");
  EXPECT_HAS(csv_error("a\tb\n1\t2\n"), "set delimiter to \\t (or to ',' if it is one)");
  EXPECT_HAS(csv_error("a,b\n1,2\n", "a.tsv"), "set delimiter to ','");
  EXPECT_EQ(read_text("a;b\n1;2\n", "a.csv", {.delimiter = ","})[0].at("a;b").as_string(), "1;2");
  EXPECT_HAS(csv_error("a,b\n1,2\n\xE9t\xE9,4\n"), "a.csv:3: \"");
  EXPECT_HAS(csv_error("a,b\n1,2\n\xE9t\xE9,4\n"), "is not valid UTF-8");
  EXPECT_HAS(csv_error("\xE9,b\n1,2\n"), "a.csv:1: ");
  EXPECT_HAS(csv_error("good\n\xE9\n", "a.txt"), "a.txt:2: ");
}

TEST(Json, ErrorsSayWhatIsMeant) {
  const auto error = [](std::string_view text) { return csv_error(text, "a.jsonl"); };
  EXPECT_HAS(error("{\n  \"text\": \"a\"\n}\n"), "a row of JSONL stands on one line");
  EXPECT_HAS(error("{\"a\": 1}\n{\"a\": NaN}\n"), "a.jsonl:2: not valid JSON: ");
  EXPECT_HAS(error("{\"a\": NaN}\n"), "; JSON has no NaN: write null");
  EXPECT_HAS(error("{\"a\": -Infinity}\n"), "; JSON has no Infinity: write null");
  EXPECT_HAS(error("{\"a\": \"\\ud800x\"}\n"), "half of a surrogate pair");
  EXPECT_HAS(error("[{\"a\": 1},]"), "not valid JSON: ']' where a row should begin");
  EXPECT_HAS(error("[{\"a\": 1},,{\"a\": 1}]"), "not valid JSON: ',' where a row should begin");
  EXPECT_HAS(error("[,{\"a\": 1}]"), "not valid JSON: ',' where a row should begin");
}

TEST(Csv, TsvAndWhere) {
  const auto reader = open_dataset(write_dataset("x\ty\r\n1\t\"a\nb\"\r\n\r\n2\tc\r\n", "a.tsv"));
  ASSERT_EQ(reader->size(), 2);
  EXPECT_EQ(reader->row(0).at("y").as_string(), "a\nb");
  EXPECT_EQ(reader->row(1).at("y").as_string(), "c");
  EXPECT_EQ(reader->where(0), reader->path() + ":2");
  EXPECT_EQ(reader->where(1), reader->path() + ":5");
}

TEST(Text, LinesParagraphsDocuments) {
  const std::string text = "one\r\ntwo  \n\n  \nthree\nfour";
  const auto texts = [&](const char* unit) {
    std::vector<std::string> result;
    for (const Json& row : read_text(text, "a.txt", {.sample_by = unit}))
      result.push_back(row.at("text").as_string());
    return result;
  };
  EXPECT_EQ(texts("line"), (std::vector<std::string>{"one", "two  ", "three", "four"}));
  EXPECT_EQ(texts("paragraph"), (std::vector<std::string>{"one\r\ntwo  ", "three\nfour"}));
  EXPECT_EQ(texts("document"), std::vector<std::string>{text});
  EXPECT_HAS(csv_error(" \n \n", "a.txt"), "holds no rows");
  EXPECT_HAS(csv_error(std::string_view("\0\1", 2), "a.txt"), "no text");
}

TEST(TextRows, AnyRowInAnyOrderWithItsLine) {
  std::string text;
  std::vector<int64_t> lines;
  int64_t line = 1;
  for (int i = 0; i < 3000; ++i) {
    for (int blank = 0; blank < i % 3; ++blank, ++line) text += "\n";
    lines.push_back(line++);
    text += "{\"i\": " + std::to_string(i) + ", \"t\": \"" +
            std::string(static_cast<size_t>(i * 7 % 900), 'x') + "\"}\n";
  }
  const auto reader = open_dataset(write_dataset(text));
  ASSERT_EQ(reader->size(), 3000);
  for (int64_t k = 0; k < 3000; ++k) {
    const int64_t i = k * 1237 % 3000;
    EXPECT_EQ(reader->row(i).at("i").as_int(), i);
    EXPECT_EQ(reader->where(i), reader->path() + ":" + std::to_string(lines[static_cast<size_t>(i)]));
    if (k % 500 == 0) reader->forget(k, 3000);
  }
}

TEST(TextRows, AVeryLongRowIsRefused) {
  std::string text = "{\"text\": \"";
  text.resize(size_t{65} << 20, 'x');
  EXPECT_HAS(csv_error("{\"text\": \"a\"}\n" + text + "\"}\n", "a.jsonl"),
             "a.jsonl:2: row 2 is 65.0 MiB long, at most 64.0 MiB");
}

TEST(Compressed, EqualsTheUnpackedFile) {
  for (const char* name :
       {"lines.jsonl.gz", "two_members.jsonl.gz", "lines.jsonl.zst", "two_frames.jsonl.zst"}) {
    const auto rows = read({.path = table(name)});
    ASSERT_EQ(rows.size(), 200u) << name;
    for (int i = 0; i < 200; ++i)
      EXPECT_TRUE(
          rows[static_cast<size_t>(i)].at("text").as_string().starts_with("line " + std::to_string(i) + " "));
  }
}

TEST(Compressed, CutOffOrDamaged) {
  for (const char* name : {"lines.jsonl.gz", "lines.jsonl.zst"}) {
    const std::string whole = read_file(table(name));
    for (size_t size = 10; size < whole.size(); size += 37) {
      const std::string message = csv_error(std::string_view(whole).substr(0, size), name);
      EXPECT_HAS(message, "ends early") << name << " " << size;
    }
    std::string damaged = whole;
    for (size_t i = 100; i < 140; ++i) damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    EXPECT_NE(csv_error(damaged, name), "");
    EXPECT_NE(csv_error(whole + "garbage that is no member at all", name), "");
  }
}

TEST(Compressed, PaddingSkippedFramesAndOtherPackers) {
  const auto texts = [](const std::string& content, const std::string& name) {
    return read_text(content, name).size();
  };
  const std::string gz = read_file(table("lines.jsonl.gz")), zst = read_file(table("lines.jsonl.zst"));
  EXPECT_EQ(texts(gz + std::string(700, '\0'), "a.jsonl.gz"), 200u);
  EXPECT_EQ(texts(gz + std::string(3, '\0') + gz, "a.jsonl.gz"), 400u);
  const std::string skipped("\x5A\x2A\x4D\x18\x03\0\0\0abc", 11);
  EXPECT_EQ(texts(skipped + zst + skipped + zst + skipped, "a.jsonl.zst"), 400u);
  EXPECT_HAS(csv_error("\xFD"
                       "7zXZ" +
                           std::string("\0rest", 5),
                       "a.jsonl.xz"),
             "is compressed with xz, which is not read");
  EXPECT_HAS(csv_error("BZh91AY", "a.jsonl.bz2"), "is compressed with bzip2");
  EXPECT_HAS(csv_error("PK\x03\x04", "a.zip"), "is compressed with zip");
}

TEST(Compressed, BombIsBounded) {
  const std::string cache = scratch_directory() + "/cache";
  EXPECT_HAS(error_of([&] {
               open_dataset({.path = table("bomb.jsonl.gz")},
                            DataCache({.directory = cache, .limit = 8 << 20}));
             }),
             "unpacks to more than dataset_cache_limit (8.0 MiB)");
  EXPECT_TRUE(list_directory(cache).empty());
  EXPECT_HAS(error_of([&] { open_dataset({.path = table("bomb.jsonl.gz")}, DataCache()); }),
             "at most 64.0 MiB are read");
}

class Tables : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      read({.path = table("zstd.parquet")});
    } catch (const UserError& error) {
      if (std::string_view(error.what()).find("plugin") == std::string_view::npos) throw;
      GTEST_SKIP() << "built without the Parquet plugin: " << error.what();
    }
  }
};

TEST_F(Tables, EveryKindEqualsJsonl) {
  const auto expected = read({.path = table("rows.jsonl")});
  ASSERT_EQ(expected.size(), 30u);
  for (const char* name : {"zstd.parquet", "snappy.parquet", "none.parquet", "gzip.parquet", "file.arrow",
                           "stream.arrow", "lz4.feather"}) {
    const auto reader = open_dataset(table(name));
    ASSERT_EQ(reader->size(), 30) << name;
    for (int64_t k = 0; k < 30; ++k) {
      const int64_t i = k * 17 % 30;
      EXPECT_EQ(reader->row(i), expected[static_cast<size_t>(i)])
          << name << " " << i << " " << reader->row(i).dump();
    }
    EXPECT_EQ(reader->where(4), table(name) + ": row 5");
  }
}

TEST_F(Tables, HostileFiles) {
  EXPECT_HAS(error_of([] { read({.path = table("bytes.parquet")}); }),
             "column 'image': a column holds bytes");
  EXPECT_HAS(error_of([] { read({.path = table("empty.parquet")}); }), "holds no rows");
  for (const char* name : {"zstd.parquet", "none.parquet", "file.arrow", "stream.arrow", "lz4.feather"}) {
    const std::string whole = read_file(table(name));
    for (size_t size = 6; size < whole.size(); size += whole.size() / 40) {
      // A stream may end between two batches: it is then shorter, and that cannot be seen.
      try {
        read_text(std::string_view(whole).substr(0, size), name);
        EXPECT_STREQ(name, "stream.arrow") << size;
      } catch (const UserError&) {
      }
      std::string damaged = whole;
      for (size_t i = size; i < std::min(size + 8, whole.size()); ++i)
        damaged[i] = static_cast<char>(i * 131);
      try {
        read_text(damaged, name);  // any rows or one error, and no crash
      } catch (const UserError& error) {
        EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos);
      }
    }
  }
}

TEST_F(Tables, LyingFooters) {
  const std::string whole = read_file(table("none.parquet"));
  const auto error_with = [&](std::string_view tail) {
    return csv_error(whole.substr(0, whole.size() - tail.size()) + std::string(tail), "a.parquet");
  };
  EXPECT_HAS(csv_error("PAR1", "a.parquet"), "a.parquet: cannot be read: ends before a Parquet footer");
  EXPECT_HAS(error_with("PARX"), "does not end with a Parquet footer; was the file cut off?");
  EXPECT_HAS(error_with("PARE"), "is encrypted");
  EXPECT_HAS(error_with(std::string_view("\0\0\0\0PAR1", 8)), "says that its footer has 0 of");
  EXPECT_HAS(error_with("\xFF\xFF\xFF\x7FPAR1"), "says that its footer has 2147483647 of");
  EXPECT_HAS(error_with("\xFF\xFF\xFF\xFFPAR1"), "says that its footer has 4294967295 of");
}

}  // namespace
}  // namespace serval
