// `serval bench` on the CPU, with a tiny configuration.
#include <set>

#include "cli/program.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

std::string tiny_config_file() {
  return write_file(scratch_directory(), "config.json", tiny_config().dump(2));
}

Json bench_json(Words words) {
  words.insert(words.begin(), "bench");
  words.insert(words.end(), {"--json", "--device", "cpu", "--num-threads", "1"});
  const Finished run = run_serval(words);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.err, "");
  return Json::parse(run.out, "bench --json");
}

TEST(Bench, TrainTellsSpeedMemoryAndTimes) {
  const std::string config = tiny_config_file();
  const Json r = bench_json({"--config", config, "--max-length", "48", "--per-device-train-batch-size", "2",
                             "--gradient-accumulation-steps", "3", "--steps", "2", "--lora-r", "4"});
  EXPECT_EQ(r.at("target").as_string(), "train");
  EXPECT_EQ(r.at("parameters").as_int(), 43168);
  EXPECT_EQ(r.at("trained_parameters").as_int(), 4096);
  EXPECT_EQ(r.at("step_tokens").as_int(), 2 * 3 * 48);
  const double step = r.at("step_seconds").as_double();
  EXPECT_GT(step, 0);
  EXPECT_NEAR(r.at("tokens_per_second").as_double() * step, 2 * 3 * 48, 1e-6);
  EXPECT_GT(r.at("first_step_seconds").as_double(), r.at("weights_seconds").as_double());
  EXPECT_EQ(r.at("peak_bytes").as_int(), r.at("arena_bytes").as_int() + r.at("state_bytes").as_int());
  EXPECT_GT(r.at("peak_resident_bytes").as_int(), r.at("peak_bytes").as_int());
  EXPECT_GT(r.at("step_flops").as_double(), 0);
  EXPECT_NEAR(r.at("share_of_product_rate").as_double(),
              r.at("step_flops").as_double() / step / r.at("product_flops_per_second").as_double(), 1e-9);
  // The loss of random weights over 768 tokens is near ln 768 = 6.64.
  EXPECT_NEAR(r.at("loss").as_double(), 6.64, 0.5);
  std::set<std::string> ops;
  for (const Json& op : r.at("ops").as_array()) {
    EXPECT_GT(op.at("calls").as_int(), 0);
    EXPECT_GT(op.at("seconds").as_double(), 0);
    ops.insert(op.at("op").as_string());
  }
  for (const char* op :
       {"linear", "linear_backward", "attention", "attention_backward", "head_loss", "adamw"})
    EXPECT_TRUE(ops.contains(op)) << op;
}

TEST(Bench, PackedRowsFullTrainingAndRecompute) {
  const std::string config = tiny_config_file();
  const Words words = {"--config", config, "--max-length", "200", "--steps", "1", "--no-op-times"};
  Words packed = words, full = words, blocks = words;
  packed.insert(packed.end(), {"--packed", "--per-device-train-batch-size", "4"});
  full.insert(full.end(), {"--full"});
  blocks.insert(blocks.end(), {"--recompute", "blocks"});
  const Json p = bench_json(packed);
  EXPECT_TRUE(p.at("packed").as_bool());
  EXPECT_LE(p.at("step_tokens").as_int(), 4 * 200);
  EXPECT_GT(p.at("step_tokens").as_int(), 3 * 200);
  EXPECT_EQ(p.at("ops").size(), 0u);
  const Json f = bench_json(full);
  EXPECT_EQ(f.at("trained_parameters").as_int(), f.at("parameters").as_int());
  EXPECT_EQ(f.at("lora_r").as_int(), 0);
  const Json lora = bench_json(words), leaner = bench_json(blocks);
  EXPECT_LT(leaner.at("arena_bytes").as_int(), lora.at("arena_bytes").as_int());
  EXPECT_EQ(leaner.at("loss").as_double(), lora.at("loss").as_double());
}

TEST(Bench, GenerateTellsSpeedAndMemory) {
  const Json r = bench_json({"generate", "--config", tiny_config_file(), "--batch-size", "3",
                             "--prompt-length", "20", "--max-new-tokens", "6"});
  EXPECT_EQ(r.at("target").as_string(), "generate");
  EXPECT_EQ(r.at("batch_size").as_int(), 3);
  const double step = r.at("step_seconds").as_double();
  EXPECT_GT(step, 0);
  EXPECT_NEAR(r.at("tokens_per_second").as_double() * step, 3, 1e-9);
  EXPECT_GT(r.at("prompt_tokens_per_second").as_double(), 0);
  // bf16; the head is the embedding or the embedding is not counted.
  EXPECT_LE(r.at("weight_bytes").as_int(), 2 * r.at("parameters").as_int());
  EXPECT_NEAR(
      r.at("share_of_copy_rate").as_double(),
      static_cast<double>(r.at("weight_bytes").as_int()) / r.at("copy_bytes_per_second").as_double() / step,
      1e-9);
  EXPECT_EQ(r.at("peak_bytes").as_int(), r.at("arena_bytes").as_int() + r.at("state_bytes").as_int());
  for (const Json& op : r.at("ops").as_array())
    EXPECT_TRUE(op.at("op").as_string() != "argmax_rows" || op.at("calls").as_int() == 1);
  EXPECT_FAILS(run_serval({"bench", "generate", "--max-new-tokens", "1"}), 2, "max_new_tokens");
}

TEST(Bench, OpsAndProducts) {
  const std::string config = tiny_config_file();
  const Json ops = bench_json({"ops", "--config", config, "--tokens", "24", "--only", "norm"});
  EXPECT_GT(ops.at("copy_bytes_per_second").as_double(), 0);
  std::set<std::string> names;
  for (const Json& call : ops.at("calls").as_array()) {
    EXPECT_GT(call.at("seconds").as_double(), 0);
    EXPECT_GT(call.at("share_of_copy").as_double(), 0);
    names.insert(call.at("name").as_string() + "/" + call.at("op").as_string());
  }
  for (const char* name : {"norm/rms_norm", "norm/rms_norm_backward", "residual norm/rms_norm",
                           "q/k norm + rope/qk_norm_rope_backward"})
    EXPECT_TRUE(names.contains(name)) << name;
  const Json products = bench_json({"gemm", "--config", config, "--tokens", "24", "--only", "q,k,v"});
  EXPECT_EQ(products.at("calls").size(), 5u);  // plain and with adapters; forward, backward, gradient of A
}

TEST(Bench, ProfileForThePlan) {
  const std::string root = scratch_directory(), profile = root + "/profile.json";
  const std::string config = write_file(root, "config.json", tiny_config().dump(2));
  bench_json({"--config", config, "--max-length", "32", "--steps", "1", "--profile", profile});
  bench_json({"copy", "--profile", profile});
  const Json json = Json::parse(read_file(profile), profile);
  EXPECT_GT(json.at("product_flops_per_second").as_double(), 0);
  EXPECT_GT(json.at("efficiency").as_double(), 0);
  EXPECT_GT(json.at("copy_bytes_per_second").as_double(), 0);
  const Finished plan =
      run_serval({"plan", "--model", tiny_model(), "--max-length", "64", "--json", "--profile", profile});
  ASSERT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_EQ(Json::parse(plan.out, "plan").at("profile"), json.at("name"));
  write_file(root, "profile.json", R"({"name": "another machine", "product_flops_per_second": 1e9})");
  EXPECT_FAILS(run_serval({"bench", "copy", "--device", "cpu", "--profile", profile}), 1,
               "is the profile of another device (another machine)");
}

TEST(Bench, LoadTellsHowFastACheckpointIsRead) {
  const Json r = bench_json({"load", "--model", tiny_model()});
  EXPECT_EQ(r.at("target").as_string(), "load");
  EXPECT_EQ(r.at("parameters").as_int(), 43168);
  EXPECT_EQ(r.at("file_bytes").as_int(), file_size(tiny_model() + "/model.safetensors"));
  for (const char* key :
       {"first_read_bytes_per_second", "second_read_bytes_per_second", "load_bytes_per_second"})
    EXPECT_GT(r.at(key).as_double(), 0) << key;
  EXPECT_NEAR(r.at("share_of_limit").as_double() * r.at("second_read_bytes_per_second").as_double(),
              r.at("load_bytes_per_second").as_double(), 1e-6 * r.at("load_bytes_per_second").as_double());
  // Random weights of a configuration are written to a directory that is gone afterwards.
  const std::string root = scratch_directory(), temporary = root + "/tmp";
  make_directories(temporary);
  const std::string config = write_file(root, "config.json", tiny_config().dump(2));
  const Finished run = run_serval({"bench", "load", "--config", config, "--device", "cpu"},
                                  {.environment = {"TMPDIR=" + temporary}});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.out, "random weights: 43.2 K parameters");
  EXPECT_HAS(run.out, "of the slowest of these");
  EXPECT_TRUE(list_directory(temporary).empty());
  EXPECT_FAILS(run_serval({"bench", "load", "--model", "./none", "--device", "cpu"}), 1, "./none");
  EXPECT_FAILS(run_serval({"bench", "load", "--model", "./none", "--config", config}), 2, "give one of them");
}

TEST(Bench, WrongWords) {
  EXPECT_FAILS(run_serval({"bench", "--shape", "qwen3-0.7b"}), 2, "did you mean 'qwen3-0.6b'?");
  EXPECT_FAILS(run_serval({"bench", "gmm"}), 2, "did you mean 'gemm'?");
  EXPECT_FAILS(run_serval({"bench", "--shape", "qwen3-8b", "--config", "x"}), 2, "give one of them");
  EXPECT_FAILS(run_serval({"bench", "--config", tiny_config_file(), "--recompute", "block"}), 2, "'blocks'");
  EXPECT_FAILS(run_serval({"bench", "ops", "--config", tiny_config_file(), "--only", "xyz"}), 2, "'xyz'");
}

}  // namespace
}  // namespace serval::testing
