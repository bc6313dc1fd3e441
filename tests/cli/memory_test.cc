// The plan's numbers against the process that runs it.
#include <algorithm>
#include <cmath>

#include "cli/program.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

#ifdef __SANITIZE_ADDRESS__
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

Json model_of(int64_t hidden, int64_t intermediate, int64_t layers, int64_t heads, int64_t kv_heads) {
  Json changes = Json::object();
  changes.set("hidden_size", Json(hidden));
  changes.set("intermediate_size", Json(intermediate));
  changes.set("num_hidden_layers", Json(layers));
  changes.set("num_attention_heads", Json(heads));
  changes.set("num_key_value_heads", Json(kv_heads));
  changes.set("head_dim", Json(hidden / heads));
  return changes;
}

// The highest resident memory of a run keeps to the plan, with 38 M parameters.
TEST(Memory, PeakIsAsPlanned) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer needs memory of its own";
  const std::string root = scratch_directory();
  const std::string model = model_folder(root + "/model", model_of(512, 1536, 12, 8, 4));
  std::string text;
  for (int i = 0; i < 300; ++i) text += "river stone ";
  const std::string data =
      write_file(root, "long.jsonl", "{\"text\": \"" + text + "\"}\n{\"text\": \"" + text + "\"}\n");
  const Words modes[] = {{"--use-peft", "true"},
                         {"--use-peft", "false"},
                         {"--use-peft", "false", "--gradient-checkpointing", "true"}};
  for (const Words& mode : modes) {
    Words words = {"--init",
                   model + "/config.json",
                   "--dataset",
                   data,
                   "--max-length",
                   "128",
                   "--per-device-train-batch-size",
                   "2",
                   "--max-steps",
                   "2",
                   "--num-threads",
                   "1"};
    words.insert(words.end(), mode.begin(), mode.end());
    // The process's own memory: on a GPU the plan is of another one.
    Words plan_words = {"plan", "--json", "--device", "cpu"},
          run_words = {"train", "--device", "cpu", "--output-dir", root + "/out", "--overwrite-output-dir"};
    plan_words.insert(plan_words.end(), words.begin(), words.end());
    run_words.insert(run_words.end(), words.begin(), words.end());
    const Finished planned = run_serval(plan_words), run = run_serval(run_words);
    ASSERT_EQ(planned.exit_code, 0) << planned.err;
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json plan = Json::parse(planned.out, "plan --json");
    EXPECT_EQ(plan.at("parameters").as_int(), 38154752);
    const auto total = static_cast<double>(plan.at("total_bytes").as_int());
    EXPECT_NEAR(static_cast<double>(run.peak_bytes), total, std::max(0.02 * total, 64.0 * (1 << 20)))
        << mode[1];
    EXPECT_HAS(run.err, "peak memory");
  }
}

TEST(Memory, APlanOfALargeModelIsCheap) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer needs memory of its own";
  const std::string root = scratch_directory();
  Json changes = model_of(8192, 28672, 80, 64, 8);
  changes.set("vocab_size", Json(128256));
  changes.set("tie_word_embeddings", Json(false));
  const std::string model = model_folder(root + "/model", changes);
  // As the machine has room, and with a limit that is fitted tensor by tensor.
  const Words modes[] = {
      {"--use-peft", "true"},
      {"--use-peft", "false"},
      {"--use-peft", "true", "--memory-limit", "250GiB"},
      {"--use-peft", "true", "--memory-limit", "180GiB", "--recompute", "auto", "--activation-offloading"}};
  for (const Words& mode : modes) {
    Words words = {"plan",     "--init", model + "/config.json", "--max-length", "2048", "--json",
                   "--device", "cpu"};
    words.insert(words.end(), mode.begin(), mode.end());
    const Finished run = run_serval(words);
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json plan = Json::parse(run.out, "plan --json");
    if (mode.size() > 2) {
      EXPECT_EQ(plan.at("recompute").as_string(), "fitted");
    }
    EXPECT_EQ(plan.at("parameters").as_int(), 70553706496);
    EXPECT_LT(run.peak_bytes, 200 << 20);
    EXPECT_LT(run.seconds, 1.0);
  }
}

}  // namespace
}  // namespace serval::testing
