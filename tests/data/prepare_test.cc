// Preparation with and without the cache, and the report on a dataset.
#include "data/prepare.h"

#include <gtest/gtest.h>

#include "data/preview.h"
#include "data/report.h"
#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::fixture;
using testing::scratch_directory;
using testing::write_dataset;

class Prepare : public ::testing::Test {
 protected:
  std::string root_ = scratch_directory();
  std::string directory_ = fixture("data/tokenizer_plain");
  Tokenizer tokenizer_ = Tokenizer::from_directory(directory_);
  ChatTemplate chat_ = ChatTemplate::from_directory(directory_);

  PreparedData prepare(const DatasetSource& source, int64_t max_length = 0,
                       const std::string& fingerprint = "f", bool kept = true) {
    return prepare_dataset(source,
                           {.tokenizer = tokenizer_,
                            .chat_template = &chat_,
                            .fingerprint = fingerprint,
                            .shape = {.has_chat_template = true},
                            .examples = {.max_length = max_length},
                            .cache = kept ? DataCache({.directory = root_ + "/cache"}) : DataCache()});
  }
  std::string file(const std::string& name, const std::string& content) {
    write_file_atomically(root_ + "/" + name, content);
    return root_ + "/" + name;
  }
};

TEST_F(Prepare, TheCacheChangesNothing) {
  const DatasetSource source{.path = fixture("data/messages.jsonl")};
  const PreparedData plain = prepare(source, 0, "", false), first = prepare(source), second = prepare(source);
  EXPECT_FALSE(plain.from_cache);
  EXPECT_FALSE(first.from_cache);
  EXPECT_TRUE(second.from_cache);
  for (const PreparedData* data : {&first, &second}) {
    EXPECT_EQ(data->explanation, plain.explanation);
    EXPECT_EQ(data->statistics.text(), plain.statistics.text());
    EXPECT_EQ(data->notes, plain.notes);
    EXPECT_EQ(data->largest_id, plain.largest_id);
    EXPECT_EQ(preview_examples(data->examples, tokenizer_, 100, false),
              preview_examples(plain.examples, tokenizer_, 100, false));
  }
}

TEST_F(Prepare, WhateverDiffersIsMadeAgain) {
  const std::string path = file("a.jsonl", "{\"text\": \"one two\"}\n{\"text\": \"three\"}\n");
  EXPECT_FALSE(prepare({.path = path}).from_cache);
  EXPECT_TRUE(prepare({.path = path}).from_cache);
  EXPECT_FALSE(prepare({.path = path}, 3).from_cache);
  EXPECT_FALSE(prepare({.path = path}, 0, "other tokenizer").from_cache);
  EXPECT_FALSE(prepare({.path = path, .split = "train[:1]"}).from_cache);
  file("a.jsonl", "{\"text\": \"one too\"}\n{\"text\": \"three\"}\n");
  EXPECT_FALSE(prepare({.path = path}).from_cache);
  file("a.jsonl", "{\"text\": \"one two\"}\n{\"text\": \"three\"}\n");
  EXPECT_TRUE(prepare({.path = path}).from_cache);  // by content, not by time
  EXPECT_TRUE(prepare({.path = path, .split = "train"}).from_cache);
}

TEST_F(Prepare, EveryOptionBelongsToTheName) {
  const std::string path = file("a.jsonl", "{\"prompt\": \"one two\", \"completion\": \"three\"}\n");
  const auto prepare_with = [&](const ShapeOptions& shape, const ExampleOptions& examples,
                                const MergeOptions& merge = {}, const Json& rest = Json::object()) {
    return prepare_dataset({.path = path, .rest = rest},
                           {.tokenizer = tokenizer_,
                            .chat_template = &chat_,
                            .fingerprint = "f",
                            .shape = shape,
                            .merge = merge,
                            .examples = examples,
                            .cache = DataCache({.directory = root_ + "/cache"})})
        .from_cache;
  };
  const ShapeOptions chat{.has_chat_template = true};
  EXPECT_FALSE(prepare_with(chat, {}));
  EXPECT_TRUE(prepare_with(chat, {}));
  EXPECT_FALSE(prepare_with({.has_chat_template = true, .format = "prompt_completion"}, {}));
  EXPECT_FALSE(prepare_with(
      {.has_chat_template = true, .columns = {{"prompt", "completion"}, {"completion", "prompt"}}}, {}));
  for (const MaskOptions& mask :
       {MaskOptions{.completion_only_loss = false}, MaskOptions{.last_turn_only = true},
        MaskOptions{.instruction_part = "o", .response_part = "t"}, MaskOptions{.prompt_loss_weight = 0.5}})
    EXPECT_FALSE(prepare_with(chat, {.mask = mask}));
  EXPECT_FALSE(prepare_with(chat, {.max_length = 201}));
  EXPECT_FALSE(prepare_with(chat, {.max_length = 201, .truncation = Truncation::drop}));
  EXPECT_FALSE(prepare_with(chat, {.max_length = 201, .pieces = Pieces::wrapped}));
  EXPECT_FALSE(prepare_with(chat, {}, {.prompt = "{prompt}", .output_column = "completion"}));
  EXPECT_FALSE(prepare_with(chat, {}, {.prompt = "{prompt}", .output_column = "prompt"}));
  // What an entry says of itself.
  const Json said = Json::parse(R"({"columns": {"prompt": "completion", "completion": "prompt"}})", "entry");
  EXPECT_FALSE(prepare_with(chat, {}, {}, said));
  EXPECT_TRUE(prepare_with(chat, {}, {}, said));
}

TEST_F(Prepare, PiecesOfDocuments) {
  const std::string path =
      file("a.jsonl", "{\"text\": \"one two three four five six\"}\n{\"text\": \"seven eight nine ten\"}\n");
  const auto prepare_pieces = [&](Pieces pieces) {
    return prepare_dataset({.path = path}, {.tokenizer = tokenizer_,
                                            .fingerprint = "",
                                            .examples = {.max_length = 8, .pieces = pieces},
                                            .cache = DataCache()});
  };
  const int64_t tokens =
      prepare_dataset({.path = path}, {.tokenizer = tokenizer_, .cache = DataCache()}).statistics.tokens;
  const PreparedData split = prepare_pieces(Pieces::split), wrapped = prepare_pieces(Pieces::wrapped);
  for (const PreparedData* data : {&split, &wrapped}) {
    EXPECT_EQ(data->statistics.truncated, 0);
    EXPECT_LE(data->statistics.longest, 8);
    EXPECT_EQ(data->statistics.examples, data->examples.size());
    EXPECT_GE(data->statistics.tokens, tokens - 2);  // a last piece of one token has no label
    EXPECT_EQ(data->statistics.rows, 2);
  }
  for (int64_t i = 0; i + 1 < wrapped.examples.size(); ++i) EXPECT_EQ(wrapped.examples.length(i), 8);
  EXPECT_GT(split.examples.size(), 2);
}

TEST_F(Prepare, WrongRowsLeaveNothingBehind) {
  const std::string path = file("a.jsonl", "{\"text\": \"one\"}\n{\"text\": 7}\n");
  EXPECT_HAS(error_of([&] { prepare({.path = path}); }), "a.jsonl:2: 'text' must be text");
  EXPECT_TRUE(list_directory(root_ + "/cache").empty());
}

TEST_F(Prepare, FingerprintFollowsTheFiles) {
  const std::string copy = root_ + "/tokenizer";
  make_directories(copy);
  for (const std::string& name : list_directory(directory_))
    write_file_atomically(copy + "/" + name, read_file(directory_ + "/" + name));
  const std::string before = fingerprint_of_tokenizer(copy);
  EXPECT_EQ(before, fingerprint_of_tokenizer(copy));
  write_file_atomically(copy + "/weights.bin", "no part of it");
  EXPECT_EQ(before, fingerprint_of_tokenizer(copy));
  write_file_atomically(copy + "/chat_template.jinja", read_file(copy + "/chat_template.jinja") + " ");
  EXPECT_NE(before, fingerprint_of_tokenizer(copy));
}

TEST_F(Prepare, FingerprintFollowsTheChosenTemplateAndFile) {
  const std::string copy = root_ + "/tokenizer", file = copy + "/tokenizer.json";
  make_directories(copy);
  for (const std::string& name : list_directory(directory_))
    write_file_atomically(copy + "/" + name, read_file(directory_ + "/" + name));
  const std::string own = fingerprint_of_tokenizer(copy), one = fingerprint_of_tokenizer(copy, "one");
  EXPECT_NE(own, one);
  EXPECT_NE(one, fingerprint_of_tokenizer(copy, "two"));
  EXPECT_EQ(one, fingerprint_of_tokenizer(copy, "one"));
  // A file that is named is read with the settings beside it.
  const std::string before = fingerprint_of_tokenizer(file);
  write_file_atomically(copy + "/tokenizer_config.json", "{\"bos_token\": \"x\"}");
  const std::string after = fingerprint_of_tokenizer(file);
  EXPECT_NE(before, after);
  write_file_atomically(copy + "/other.gguf", "has no part in it");
  EXPECT_EQ(after, fingerprint_of_tokenizer(file));
}

TEST_F(Prepare, Report) {
  const std::string path =
      file("a.jsonl",
           "{\"text\": \"one two\"}\n{\"text\": \"one two\"}\n{\"text\": \"The river Ann runs through "
           "the town of Belm.\"}\n");
  const PreparedData data = prepare({.path = path}, 8);
  const DataReport report = report_on(data.examples, data.statistics, tokenizer_);
  EXPECT_EQ(report.duplicates, 1);
  EXPECT_EQ(report.longest, 8);
  EXPECT_EQ(report.statistics.truncated, 1);
  EXPECT_EQ(report.end_not_trained, 1);  // the one that was cut
  EXPECT_EQ(report.double_bos, 0);
  int64_t binned = 0;
  for (const auto& bin : report.histogram) binned += bin.examples;
  EXPECT_EQ(binned, 3);
  EXPECT_HAS(report.text("a"), "1 of 3 examples are duplicates of earlier ones");
  EXPECT_HAS(report.text("a"), "1 of 3 examples never train the end-of-text token");
  EXPECT_EQ(report.json("a").at("tokens").as_int(), data.examples.num_tokens());
  EXPECT_EQ(report.json("a").at("warnings").size(), 3u);
}

TEST_F(Prepare, DoubleBosIsSeen) {
  const Tokenizer tokenizer = Tokenizer::from_directory(fixture("data/tokenizer_bos"));
  ASSERT_TRUE(tokenizer.bos_id());
  const int32_t bos = *tokenizer.bos_id();
  Examples examples;
  examples.add(std::vector<int32_t>{bos, bos, 5}, {false, false, true});
  examples.add(std::vector<int32_t>{bos, 5, bos}, {false, false, true});
  const DataReport report = report_on(examples, {}, tokenizer);
  EXPECT_EQ(report.double_bos, 1);
  EXPECT_HAS(report.warnings.at(0), "1 of 2 examples begin with two BOS tokens");
}

TEST_F(Prepare, HtmlAndIds) {
  const std::string path = file("a.jsonl", "{\"text\": \"<b>&\\u001b\\\"\"}\n");
  const PreparedData data = prepare({.path = path});
  const std::string page = preview_html(data.examples, tokenizer_, 5, "<x>");
  EXPECT_HAS(page, "<title>&lt;x&gt;</title>");
  EXPECT_EQ(page.find("<b>"), std::string::npos);
  EXPECT_EQ(page.find('\x1b'), std::string::npos);
  EXPECT_HAS(page, "class=\"t trained\"");
  const std::string ids = preview_ids(data.examples, 0, tokenizer_, false);
  EXPECT_HAS(ids, fmt::format("{}:'", data.examples.ids(0)[0]));
  EXPECT_HAS(ids, "[[");
  EXPECT_EQ(ids.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace serval
