// A run that is interrupted and resumed ends in the same bits as one that never stopped.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>
#include <thread>

#include "cli/program.h"
#include "train/checkpoints.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

struct Kind {
  const char* name;
  Words words;
  bool adapter;
  int signal;
};

const Kind kKinds[] = {
    {"LoraWithDropout", {"--lora-dropout", "0.2", "--per-device-train-batch-size", "2"}, true, SIGINT},
    {"Packing", {"--packing", "true", "--per-device-train-batch-size", "1"}, true, SIGTERM},
    {"Accumulation",
     {"--gradient-accumulation-steps", "3", "--per-device-train-batch-size", "2"},
     true,
     SIGINT},
    {"Full",
     {"--use-peft", "false", "--per-device-train-batch-size", "2", "--weight-decay", "0.1"},
     false,
     SIGTERM},
    {"Full8Bit",
     {"--use-peft", "false", "--optim", "adamw_8bit", "--stochastic-rounding", "true"},
     false,
     SIGINT},
    {"FullFloat32", {"--use-peft", "false", "--dtype", "float32"}, false, SIGINT},
    {"NewTokens",
     {"--new-tokens", "river,<go>", "--lora-modules-to-save", "embed_tokens", "--embedding-learning-rate",
      "0.001"},
     true,
     SIGINT},
    {"Blocks", {"--gradient-checkpointing", "true", "--lora-dropout", "0.1"}, true, SIGTERM},
};

Words words_of(const Kind& kind, const std::string& data, const std::string& out, Words more) {
  more.insert(more.end(), kind.words.begin(), kind.words.end());
  for (const char* word : {"--logging-steps", "2", "--eval-steps", "8"}) more.push_back(word);
  more.push_back("--eval-dataset"), more.push_back(data);
  return train_words(data, out, more);
}

// The results of two finished runs; the last checkpoint of each is at step `last`.
void expect_same_results(const std::string& a, const std::string& b, bool adapter, int64_t last) {
  const std::string weights = adapter ? "adapter_model.safetensors" : "model.safetensors";
  const std::string checkpoint = "checkpoint-" + std::to_string(last) + "/";
  for (const std::string& name :
       {weights, std::string("metrics.jsonl"), std::string("loss.svg"), checkpoint + weights,
        checkpoint + "optimizer.safetensors", checkpoint + "state.json", checkpoint + "trainer_state.json"})
    EXPECT_TRUE(same_bytes(join_path(a, name), join_path(b, name))) << name;
  if (adapter) {
    EXPECT_TRUE(
        same_bytes(join_path(a, "merged/model.safetensors"), join_path(b, "merged/model.safetensors")));
  }
  for (const std::string& name : list_directory(b)) EXPECT_EQ(name.find(".tmp"), std::string::npos) << name;
}

class Resume : public ::testing::TestWithParam<Kind> {};

TEST_P(Resume, EqualsARunThatNeverStopped) {
  const std::string root = scratch_directory(), data = write_texts(root, 17);
  const std::string whole = root + "/whole", again = root + "/again", parts = root + "/parts";
  const Words common = {"--max-steps", "8", "--save-steps", "4"};
  for (const std::string& out : {whole, again}) {
    const Finished run = run_serval(words_of(GetParam(), data, out, common));
    ASSERT_EQ(run.exit_code, 0) << run.err;
  }
  expect_same_results(whole, again, GetParam().adapter, 8);  // two runs give equal bits

  // A run that went to step 8 is cut back to its checkpoint of step 4.
  Finished run = run_serval(words_of(GetParam(), data, parts, common));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  remove_tree(parts + "/checkpoint-8");
  Words more = common;
  more.push_back("--resume-from-checkpoint");
  run = run_serval(words_of(GetParam(), data, parts, more));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "continuing from " + parts + "/checkpoint-4 at step 4");
  expect_same_results(whole, parts, GetParam().adapter, 8);
}

TEST_P(Resume, StopsBySignalAndContinues) {
  const std::string root = scratch_directory(), data = write_texts(root, 17);
  const std::string whole = root + "/whole", parts = root + "/parts";
  const Words common = {"--max-steps", "100", "--save-steps", "100"};
  Finished run = run_serval(words_of(GetParam(), data, whole, common));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const int number = GetParam().signal;
  Process process(words_of(GetParam(), data, parts, common));
  ASSERT_TRUE(process.wait_for_error_text("step 2/100"));
  process.signal(number);
  run = process.wait();
  ASSERT_EQ(run.exit_code, 128 + number) << run.err;
  EXPECT_HAS(run.err, "stopped by a signal at step");
  const auto steps = checkpoint_steps(parts);
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_LT(steps[0], 100);
  EXPECT_FALSE(file_exists(parts + "/adapter_model.safetensors"));
  Words more = common;
  more.push_back("--resume-from-checkpoint"), more.push_back(checkpoint_path(parts, steps[0]));
  run = run_serval(words_of(GetParam(), data, parts, more));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  expect_same_results(whole, parts, GetParam().adapter, 100);
}

INSTANTIATE_TEST_SUITE_P(All, Resume, ::testing::ValuesIn(kKinds),
                         [](const auto& kind) { return std::string(kind.param.name); });

// Twenty; fewer where each start of the program takes seconds.
int kill_points() {
  const char* set = std::getenv("SERVAL_TEST_KILLS");
  return set != nullptr ? std::max(4, std::atoi(set)) : 20;
}

TEST(Kill, AtRandomPoints) {
  const std::string root = scratch_directory(), data = write_texts(root, 17);
  const std::string whole = root + "/whole", parts = root + "/parts";
  const Words common = {"--max-steps", "24", "--save-steps", "2", "--save-total-limit", "2"};
  std::mt19937 random(20);
  const int points = kill_points();
  int with_checkpoint = 0, without = 0;
  const Finished first = run_serval(words_of(kKinds[0], data, whole, common));
  ASSERT_EQ(first.exit_code, 0) << first.err;
  for (int point = 0; point < points; ++point) {
    SCOPED_TRACE("point " + std::to_string(point));
    remove_tree(parts);
    Process process(words_of(kKinds[0], data, parts, common));
    if (point >= points / 10) {
      ASSERT_TRUE(process.wait_for_error_text("step 1/24"));
    }
    // Any moment from here to a little before the end.
    const double share = 0.8 * static_cast<double>(random() % 1000) / 1000;
    std::this_thread::sleep_for(std::chrono::duration<double>(share * first.seconds));
    process.signal(SIGKILL);
    process.wait();
    (checkpoint_steps(parts).empty() ? without : with_checkpoint) += 1;
    Words more = common;
    more.push_back("--resume-from-checkpoint");
    const Finished run = run_serval(words_of(kKinds[0], data, parts, more));
    ASSERT_EQ(run.exit_code, 0) << run.err;
    expect_same_results(whole, parts, true, 24);
    EXPECT_EQ(checkpoint_steps(parts), (std::vector<int64_t>{22, 24}));
  }
  EXPECT_GE(with_checkpoint, points / 4) << "the kills came too early to test anything";
}

}  // namespace
}  // namespace serval::testing
