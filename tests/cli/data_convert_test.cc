// serval data convert, and what the data keys of a training run do to its loss.
#include <cmath>
#include <regex>

#include "cli/program.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

const char* const kShareGpt =
    "{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}, {\"from\": \"gpt\", \"value\": \"a\"}], "
    "\"id\": 3}\n";
const char* const kMessages =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": "
    "\"a\"}]}\n";

TEST(DataConvert, ToStdoutAndToAFile) {
  const std::string root = scratch_directory(), data = write_file(root, "d.json", kShareGpt);
  const Finished shown = run_serval({"data", "convert", data});
  EXPECT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_EQ(shown.out, kMessages);
  EXPECT_HAS(shown.err, "conversations (column conversations); not read: id");
  const Finished run = run_serval({"data", "convert", data, data, "--output", root + "/m.jsonl"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(read_file(root + "/m.jsonl"), std::string(kMessages) + kMessages);
  // What it wrote is read as the same.
  EXPECT_EQ(run_serval({"data", "convert", root + "/m.jsonl"}).out, std::string(kMessages) + kMessages);
}

TEST(DataConvert, ColumnsFormatsAndTargets) {
  const std::string root = scratch_directory();
  const std::string table = write_file(root, "t.jsonl", "{\"Frage\": \"q\", \"Antwort\": \"a\", \"n\": 2}\n");
  EXPECT_EQ(run_serval({"data", "convert", table, "--dataset-columns", "question=Frage,answer=Antwort"}).out,
            kMessages);
  EXPECT_EQ(
      run_serval({"data", "convert", table, "--merged-prompt", "{Frage}", "--output-column-name", "Antwort"})
          .out,
      kMessages);
  const std::string verdicts = write_file(root, "k.jsonl",
                                          "{\"prompt\": \"q\", \"completion\": \"a\", \"label\": true}\n"
                                          "{\"prompt\": \"q\", \"completion\": \"b\", \"label\": false}\n");
  const Finished wanted = run_serval({"data", "convert", verdicts, "--to", "messages"});
  EXPECT_EQ(wanted.out, kMessages);
  EXPECT_HAS(wanted.err, "1 rows written, 1 unwanted answers left out");
}

TEST(DataConvert, FailuresLeaveNoFile) {
  const std::string root = scratch_directory();
  const std::string cut = write_file(root, "cut.jsonl", std::string(kShareGpt) + "{\"conversations\": [{\n");
  const Finished run = run_serval({"data", "convert", cut, "--output", root + "/m.jsonl"});
  EXPECT_FAILS(run, 1, "cut.jsonl:2: not valid JSON");
  EXPECT_FALSE(file_exists(root + "/m.jsonl"));
  EXPECT_FAILS(run_serval({"data", "convert", cut, "--dataset-format", "sharegtp"}), 2,
               "did you mean 'sharegpt'");
  EXPECT_FAILS(run_serval({"data", "konvert"}), 2, "did you mean 'convert'");
  EXPECT_FAILS(run_serval({"data", "convert"}), 2, "FILE... is missing");
  EXPECT_EQ(run_serval({"data"}).exit_code, 2);
  EXPECT_HAS(run_serval({"data", "--help"}).out, "convert");
  EXPECT_HAS(run_serval({"data", "convert", "--help"}).out, "--dataset-columns");
}

struct Measured {
  double loss = 0, labels = 0;
};

// The loss of one step that changes nothing, and how many tokens count in it.
Measured measure(const std::string& root, const std::string& data, const Words& more) {
  static int count = 0;
  const std::string out = root + "/out" + std::to_string(count++);
  Words words = {"--max-steps", "1", "--learning-rate", "0"};
  words.insert(words.end(), more.begin(), more.end());
  const Finished run = run_serval(train_words(data, out, words));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  std::smatch match;
  EXPECT_TRUE(std::regex_search(run.err, match, std::regex("tokens, (\\d+) of them trained on"))) << run.err;
  return {read_lines(out + "/metrics.jsonl").at(0).at("loss").as_double(),
          match.empty() ? 0 : std::stod(match[1].str())};
}

TEST(TrainData, PromptsCountAsMuchAsTheySay) {
  const std::string root = scratch_directory();
  const std::string data = write_file(root, "d.jsonl",
                                      "{\"prompt\": \"one two three \", \"completion\": \"four\"}\n"
                                      "{\"prompt\": \"five \", \"completion\": \"six seven eight nine\"}\n");
  const Measured answers = measure(root, data, {}),
                 all = measure(root, data, {"--completion-only-loss", "false"});
  const Measured none = measure(root, data, {"--prompt-loss-weight", "0"}),
                 full = measure(root, data, {"--prompt-loss-weight", "1"}),
                 half = measure(root, data, {"--prompt-loss-weight", "0.5"});
  EXPECT_EQ(none.loss, answers.loss);
  EXPECT_EQ(full.loss, all.loss);
  ASSERT_GT(all.labels, answers.labels);
  const double prompts = all.loss * all.labels - answers.loss * answers.labels;
  const double expected = (answers.loss * answers.labels + 0.5 * prompts) /
                          (answers.labels + 0.5 * (all.labels - answers.labels));
  EXPECT_NEAR(half.loss, expected, 2e-3 * expected);  // logits are bf16, the sums are not
  EXPECT_GT(std::abs(half.loss - all.loss), 0.0);
}

TEST(TrainData, EveryPackingStrategyTrains) {
  const std::string root = scratch_directory(), data = write_texts(root, 12);
  for (const char* strategy : {"bfd", "bfd_split", "wrapped"}) {
    const Finished run = run_serval(train_words(
        data, root + "/" + strategy, {"--max-steps", "2", "--packing", "--packing-strategy", strategy}));
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_HAS(run.err, "rows of at most 64 tokens");
  }
  EXPECT_FAILS(run_serval(train_words(data, root + "/no", {"--packing-strategy", "wrapped"})), 2,
               "set packing: true");
}

TEST(TrainData, ShapesOfOtherMethodsAreRefused) {
  const std::string root = scratch_directory();
  const std::string pairs =
      write_file(root, "p.jsonl", "{\"prompt\": \"p\", \"chosen\": \"c\", \"rejected\": \"r\"}\n");
  EXPECT_FAILS(run_serval(train_words(pairs, root + "/out", {})), 1, "preference pairs");
  EXPECT_FALSE(directory_exists(root + "/out"));
}

}  // namespace
}  // namespace serval::testing
