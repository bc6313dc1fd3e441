// Directories, patterns, Hugging Face's layouts, and splits.
#include "data/source.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <span>

#include "base/json.h"
#include "data/dataset.h"
#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::fixture;
using testing::scratch_directory;

TEST(Split, EqualsDatasets) {
  const Json cases = Json::parse(read_file(fixture("data/tables/splits.json")), "splits.json");
  for (const Json& one : cases.as_array()) {
    const std::string& text = one.at("split").as_string();
    const auto parts = parse_split(text, "d");
    ASSERT_EQ(parts.size(), 1u);
    EXPECT_EQ(parts[0].name, "s");
    const int64_t rows = one.at("rows").as_int();
    const Json& bounds = one.at("bounds");
    if (bounds.is_null() || bounds.as_array()[0].as_int() >= bounds.as_array()[1].as_int()) {
      EXPECT_HAS(error_of([&] { parts[0].rows_of(rows, "d"); }), "holds no row");
      continue;
    }
    const auto [begin, end] = parts[0].rows_of(rows, "d");
    EXPECT_EQ(begin, bounds.as_array()[0].as_int()) << text << " of " << rows;
    EXPECT_EQ(end, bounds.as_array()[1].as_int()) << text << " of " << rows;
  }
}

TEST(Split, Syntax) {
  EXPECT_EQ(parse_split("", "d"), (std::vector<SplitPart>{{.name = "train"}}));
  const auto parts = parse_split(" train[10:200] + validation ", "d");
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].rows_of(1000, "d"), (std::pair<int64_t, int64_t>{10, 200}));
  EXPECT_EQ(parts[1].name, "validation");
  for (const char* wrong : {"train[", "train[]", "train[1]", "train[a:b]", "[1:2]", "a++b", "train[1:2",
                            "../x", "a b", "train[1:2]x", "train[99999999999999999999:]"})
    EXPECT_HAS(error_of([&] { parse_split(wrong, "d"); }), "is no split") << wrong;
  EXPECT_HAS(error_of([] { parse_split("train[:200%]", "d"); }), "expected -100 to 100");
}

TEST(Source, SplitsByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"train.csv", "train"},
      {"data/train-00000-of-00002.parquet", "train"},
      {"data/train_sft-00001-of-00002-ab12cd34.parquet", "train_sft"},
      {"test.jsonl", "test"},
      {"my_validation_set.json", "validation"},
      {"dev/a.jsonl", "validation"},
      {"eval.jsonl.gz", "test"},
      {"training/part1.txt", "train"},
      {"latest.csv", ""},
      {"contest/a.csv", ""},
      {"a.csv", ""},
      {"test/train.csv", "train"},
      {"x-00000-of-1.csv", ""},
  };
  for (const auto& [path, split] : cases) EXPECT_EQ(split_of_file(path), split) << path;
}

TEST(Glob, Matches) {
  EXPECT_TRUE(glob_matches("*.jsonl", "a.jsonl"));
  EXPECT_FALSE(glob_matches("*.jsonl", "x/a.jsonl"));
  EXPECT_TRUE(glob_matches("**/*.jsonl", "x/y/a.jsonl"));
  EXPECT_TRUE(glob_matches("**/*.jsonl", "a.jsonl"));
  EXPECT_TRUE(glob_matches("x/**", "x/y/z"));
  EXPECT_FALSE(glob_matches("x/**", "x"));
  EXPECT_TRUE(glob_matches("part-[0-9]?.[!x]*", "part-01.csv"));
  EXPECT_FALSE(glob_matches("part-[0-9].csv", "part-a.csv"));
  EXPECT_FALSE(glob_matches("a", "a/b"));
  EXPECT_FALSE(glob_matches("*a*a*a*a*a*a*a*a*b", std::string(2000, 'a')));
}

// What "**" means, tried out in every way; exponential.
bool matches_somehow(std::span<const std::string> pattern, std::span<const std::string> path) {
  if (pattern.empty()) return path.empty();
  if (path.empty()) return false;
  if (pattern[0] != "**")
    return (pattern[0] == "*" || pattern[0] == path[0]) &&
           matches_somehow(pattern.subspan(1), path.subspan(1));
  if (pattern.size() == 1) return true;
  for (size_t taken = 0; taken < path.size(); ++taken)
    if (matches_somehow(pattern.subspan(1), path.subspan(taken))) return true;
  return false;
}

TEST(Glob, IsItsDefinition) {
  std::mt19937 random(5);
  const std::vector<std::string> pieces = {"**", "*", "a", "b"};
  int matched = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::string> pattern, path;
    for (size_t left = 1 + random() % 5; left > 0; --left) pattern.push_back(pieces[random() % 4]);
    for (size_t left = 1 + random() % 6; left > 0; --left) path.push_back(pieces[2 + random() % 2]);
    const bool want = matches_somehow(pattern, path);
    matched += want ? 1 : 0;
    const std::string joined = fmt::format("{}", fmt::join(pattern, "/"));
    const std::string below = fmt::format("{}", fmt::join(path, "/"));
    ASSERT_EQ(glob_matches(joined, below), want) << joined << " " << below;
  }
  EXPECT_GT(matched, 2'000);
}

// Found by fuzz_split: the cost was exponential in the number of "**".
TEST(Glob, ManyStarsAreCheap) {
  std::string pattern, path;
  for (int i = 0; i < 300; ++i) pattern += "**/a*/", path += "ab/";
  EXPECT_FALSE(glob_matches(pattern + "x", path + "y"));
  EXPECT_TRUE(glob_matches(pattern + "y", path + "y"));
}

struct Folder {
  std::string root = scratch_directory();
  void file(const std::string& name, const std::string& rows) const {
    const std::string path = join_path(root, name);
    make_directories(path.substr(0, path.rfind('/')));
    write_file_atomically(path, rows);
  }
  void numbers(const std::string& name, int begin, int end) const {
    std::string rows;
    for (int i = begin; i < end; ++i) rows += "{\"i\": " + std::to_string(i) + "}\n";
    file(name, rows);
  }
  std::vector<int64_t> read(DatasetSource source) const {
    source.path = source.path.empty() ? root : join_path(root, source.path);
    const auto reader = open_dataset(source, DataCache());
    std::vector<int64_t> result;
    for (int64_t i = 0; i < reader->size(); ++i) {
      result.push_back(reader->row(i).at("i").as_int());
      EXPECT_NE(reader->where(i).find(root), std::string::npos);
    }
    reader->forget(0, reader->size());
    return result;
  }
  std::string error(DatasetSource source) const {
    return error_of([&] { read(std::move(source)); });
  }
};

std::vector<int64_t> range(int64_t begin, int64_t end) {
  std::vector<int64_t> result;
  for (int64_t i = begin; i < end; ++i) result.push_back(i);
  return result;
}

TEST(Source, DirectoryWithShardsAndSplits) {
  const Folder folder;
  folder.numbers("data/train-00001-of-00002.jsonl", 10, 20);
  folder.numbers("data/train-00000-of-00002.jsonl", 0, 10);
  folder.numbers("data/validation-00000-of-00001.jsonl", 20, 24);
  folder.file("dataset_infos.json", "{}");
  folder.file(".hidden.jsonl", "x");
  EXPECT_EQ(folder.read({}), range(0, 20));
  EXPECT_EQ(folder.read({.split = "validation"}), range(20, 24));
  EXPECT_EQ(folder.read({.split = "train[5:12]"}), range(5, 12));
  EXPECT_EQ(folder.read({.split = "train[-25%:]+validation[:1]"}), range(15, 21));
  EXPECT_EQ(folder.read({.split = "all"}), range(0, 24));
  EXPECT_EQ(folder.read({.data_files = {"data/val*"}}), range(20, 24));
  EXPECT_EQ(folder.read({.path = "data/*.jsonl"}), range(0, 24));
  EXPECT_EQ(folder.read({.path = "**/train-*.jsonl"}), range(0, 20));
  EXPECT_HAS(folder.error({.split = "test"}), "has no split 'test'; it has: train, validation");
  EXPECT_HAS(folder.error({.name = "other"}), "has no configuration 'other'");
  EXPECT_HAS(folder.error({.data_files = {"../x*"}}), "leaves its directory");
  EXPECT_HAS(folder.error({.path = "none/*.csv"}), "no file matches");
  EXPECT_HAS(folder.error({.path = "nowhere"}), "no such file or directory");
}

TEST(Source, FilesWithoutASplitAreTrain) {
  const Folder folder;
  folder.numbers("b.jsonl", 5, 7);
  folder.numbers("a.jsonl", 0, 5);
  EXPECT_EQ(folder.read({}), range(0, 7));
  folder.numbers("test.jsonl", 7, 9);
  EXPECT_EQ(folder.read({}), range(7, 9));  // its only split
  EXPECT_HAS(find_dataset_files({.path = folder.root}).note, "2 files that name no split are passed over");
}

TEST(Source, DatasetCard) {
  const Folder folder;
  folder.numbers("one/x.jsonl", 0, 3);
  folder.numbers("two/y.jsonl", 3, 5);
  folder.numbers("two/z.jsonl", 5, 6);
  folder.file(
      "README.md",
      "---\nlicense: mit\nconfigs:\n- config_name: first\n  data_files: one/*\n- config_name: second\n"
      "  data_files:\n  - split: train\n    path: [two/y.jsonl]\n  - split: extra\n    path: "
      "two/z.jsonl\n---\n# x\n");
  EXPECT_EQ(folder.read({.name = "first"}), range(0, 3));
  EXPECT_EQ(folder.read({.name = "second"}), range(3, 5));
  EXPECT_EQ(folder.read({.name = "second", .split = "train+extra"}), range(3, 6));
  EXPECT_HAS(folder.error({}), "choose one with dataset_config: first, second");
  EXPECT_HAS(folder.error({.name = "third"}), "there are: first, second");
  folder.file("README.md", "---\nconfigs:\n- config_name: default\n  data_files: ../../etc/*\n---\n");
  EXPECT_HAS(folder.error({}), "leaves its directory");
}

TEST(Source, CardsOtherSpellings) {
  const Folder folder;
  folder.numbers("sub/a.jsonl", 0, 3);
  folder.numbers("sub/b.jsonl", 3, 5);
  folder.file(
      "README.md",
      "---\r\nconfigs:\r\n- config_name: main\r\n  default: true\r\n  data_dir: sub\r\n  data_files:\r\n"
      "    train: a.jsonl\r\n    test: [b.jsonl]\r\n- config_name: whole\r\n  data_dir: sub\r\n---\r\n");
  EXPECT_EQ(folder.read({}), range(0, 3));
  EXPECT_EQ(folder.read({.split = "test"}), range(3, 5));
  EXPECT_EQ(folder.read({.name = "whole"}), range(0, 5));
}

TEST(Source, SizesThatTheDatasetSaysOfItself) {
  const Folder folder;
  folder.numbers("train-00000-of-00003.jsonl", 0, 10);
  folder.numbers("train-00002-of-00003.jsonl", 10, 12);
  folder.numbers("test.jsonl", 20, 25);
  const auto notes = [&](DatasetSource source) {
    source.path = folder.root;
    std::vector<std::string> result;
    const auto files = find_dataset_files(source);
    open_dataset(source, files, DataCache(), &result);
    return std::pair(files.note, result);
  };
  EXPECT_HAS(notes({}).first, "-of-00003 only 2 are there");
  EXPECT_TRUE(notes({}).second.empty());
  folder.file("dataset_infos.json", R"({"plain": {"splits": {"train": {"name": "train", "num_examples": 15},
      "test": {"num_examples": 5}}}, "broken": 7})");
  EXPECT_TRUE(notes({.split = "test"}).second.empty());
  const auto [note, found] = notes({.name = "plain", .split = "train[:3]"});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_HAS(found[0], "the split 'train' has 12 rows, but ");
  EXPECT_HAS(found[0], "dataset_infos.json says 15; is the download complete?");
  EXPECT_TRUE(notes({.data_files = {"train*"}}).second.empty());
  // The card's word is the newer one.
  folder.file("README.md",
              "---\ndataset_info:\n- config_name: default\n  splits:\n  - name: train\n    num_bytes: 1\n"
              "    num_examples: 12\n  - name: test\n    num_examples: 6\n---\n");
  EXPECT_TRUE(notes({}).second.empty());
  EXPECT_HAS(notes({.split = "test"}).second.at(0), "README.md says 6");
  folder.file("README.md", "---\ndataset_info:\n  splits: [{name: train, num_examples: many}, 3]\n---\n");
  EXPECT_TRUE(notes({}).second.empty());
  folder.file("README.md", "---\ndataset_info: 3\nconfigs: [1, {data_files: train-*}]\n---\n");
  EXPECT_EQ(folder.read({}), range(0, 12));
}

TEST(Source, SavedToDisk) {
  const Folder folder;
  folder.numbers("train/data-00000-of-00001.jsonl", 0, 3);
  folder.file("train/state.json", R"({"_data_files": [{"filename": "data-00000-of-00001.jsonl"}]})");
  folder.file("dataset_dict.json", R"({"splits": ["train"]})");
  EXPECT_EQ(folder.read({}), range(0, 3));
  folder.file("train/state.json", R"({"_data_files": [{"filename": "/etc/passwd"}]})");
  EXPECT_HAS(folder.error({}), "leaves its directory");
}

TEST(Source, HuggingFaceCache) {
  const Folder folder;
  folder.numbers("hub/datasets--org--name/snapshots/abc/train.jsonl", 0, 3);
  folder.file("hub/datasets--org--name/refs/main", "abc");
  ::setenv("HF_HUB_CACHE", join_path(folder.root, "hub").c_str(), 1);
  const auto reader = open_dataset(DatasetSource{.path = "org/name"}, DataCache());
  EXPECT_EQ(reader->size(), 3);
  EXPECT_HAS(error_of([] { open_dataset(DatasetSource{.path = "org/other"}, DataCache()); }),
             "hf download --repo-type dataset org/other");
  ::unsetenv("HF_HUB_CACHE");
}

}  // namespace
}  // namespace serval
