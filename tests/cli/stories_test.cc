// A real pretrained model, and hostile files, of the shared test data.
#include <filesystem>

#include "base/text.h"
#include "cli/program.h"

namespace serval::testing {
namespace {

const std::string kStories = "models/stories260K";

TEST(Stories, GreedyTextAsExpected) {
  SERVAL_NEEDS_DATA(kStories);
  const Finished run = run_serval({"generate", "--model", test_data(kStories + "/hf"), "--raw", "--prompt",
                                   "", "--max-new-tokens", "200", "--num-threads", "1"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, read_file(test_data(kStories + "/expected_greedy_200.txt")));
}

// The reference has the BOS that the tokenizer adds, and not the EOS that training data ends with: max_length
// cuts it.
TEST(Stories, MeanNllAsExpected) {
  SERVAL_NEEDS_DATA(kStories);
  const std::string sample = test_data("datasets/tinystories/tinystories_sample.txt");
  const std::string all = read_file(sample);
  std::string story = all.substr(0, all.find("<|endoftext|>"));
  story = std::string(trim(story));
  Json row = Json::object();
  row.set("text", Json(story));
  const std::string data = write_file(scratch_directory(), "story.jsonl", row.dump() + "\n");
  const Finished run = run_serval({"eval", "--model", test_data(kStories + "/hf"), "--dataset", data,
                                   "--max-length", "374", "--json", "--num-threads", "1"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json result = Json::parse(run.out, "eval --json"),
             expected =
                 Json::parse(read_file(test_data(kStories + "/reference_nll.json")), "reference_nll.json");
  double sum = 0;
  for (const Json& nll : expected.at("nll").as_array()) sum += nll.as_double();
  const auto count = static_cast<double>(expected.at("nll").size());
  const auto tokens = result.at("tokens").as_double();
  const double got = result.at("mean_nll").as_double();
  ASSERT_EQ(tokens, count);
  EXPECT_NEAR(got, sum / count, 1e-5 * sum / count);
}

TEST(Malformed, EachGgufEndsInOneLine) {
  SERVAL_NEEDS_DATA("malformed");
  int files = 0, refused = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(test_data("malformed"))) {
    if (!entry.is_regular_file()) continue;
    SCOPED_TRACE(entry.path().string());
    // What is wrong behind the header is nothing that inspect looks at.
    const Finished seen = run_serval({"inspect", entry.path()});
    if (seen.exit_code == 0) {
      EXPECT_HAS(seen.out, "GGUF version");
    } else {
      EXPECT_FAILS(seen, 1, entry.path().string());
      ++refused;
    }
    EXPECT_FAILS(run_serval({"generate", "--model", entry.path(), "--prompt", "x"}), 1,
                 entry.path().string());
    ++files;
  }
  EXPECT_GT(files, 100);
  EXPECT_GT(refused, files * 9 / 10);
  // And a GGUF without fault.
  const Finished run = run_serval({"inspect", test_data(kStories + "/stories260K.gguf")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.out, "llama");
  EXPECT_HAS(run.out, "512 tokens");
}

}  // namespace
}  // namespace serval::testing
