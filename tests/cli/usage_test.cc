// The command line as a user meets it: help, wrong usage, and the verbs that only tell.
#include "cli/program.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

TEST(Usage, HelpOfEveryVerb) {
  Finished run = run_serval({"--help"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.err, "");
  for (const char* verb :
       {"train", "plan", "generate", "chat", "eval", "inspect", "tokenize", "render", "info", "bench"}) {
    EXPECT_HAS(run.out, std::string("\n  ") + verb + " ");
    const Finished help = run_serval({verb, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_EQ(help.err, "");
    EXPECT_HAS(help.out, std::string("serval ") + verb);
    EXPECT_HAS(help.out, "xample");
  }
  run = run_serval({"--version"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_TRUE(run.out.starts_with("serval "));
}

TEST(Usage, WrongWordsExitWithTwo) {
  const Finished nothing = run_serval({});
  EXPECT_EQ(nothing.exit_code, 2);
  EXPECT_EQ(nothing.out, "");
  EXPECT_FAILS(run_serval({"trian"}), 2, "did you mean 'train'?");
  EXPECT_FAILS(run_serval({"train", "--lerning-rate", "3"}), 2, "did you mean '--learning_rate'?");
  EXPECT_FAILS(run_serval({"generate", "--max-new-token", "3"}), 2, "did you mean '--max_new_tokens'?");
  EXPECT_FAILS(run_serval({"train", "--model", tiny_model()}), 2, "dataset is missing");
  EXPECT_FAILS(run_serval({"train", "--learning-rate", "abc"}), 2, "learning_rate is 'abc'");
  EXPECT_FAILS(run_serval({"train", "--lr-scheduler-type", "cosin"}), 2, "did you mean 'cosine'?");
  EXPECT_FAILS(run_serval({"train", "--max-length", "0"}), 2, "max_length");
  EXPECT_FAILS(run_serval({"eval", "--model", tiny_model()}), 2, "--dataset is missing");
  EXPECT_FAILS(run_serval({"generate", "--model", tiny_model()}), 2, "--prompt");
  EXPECT_FAILS(run_serval({"generate", "--model", tiny_model(), "--prompt", "x", "--raw", "--system", "y"}),
               2, "--system");
  EXPECT_FAILS(run_serval({"inspect"}), 2, "FILE|DIR");
  EXPECT_FAILS(run_serval({"inspect", "a", "b"}), 2, "");
}

TEST(Usage, ATypoInAConfigurationFileNamesItsLine) {
  const std::string root = scratch_directory();
  const std::string config = write_file(root, "run.yaml", "dataset: x.jsonl\nlora_dropuot: 0.1\n");
  const Finished run = run_serval({"train", config});
  EXPECT_FAILS(run, 2, "did you mean 'lora_dropout'?");
  EXPECT_HAS(run.err, "run.yaml:2");
}

TEST(Usage, AnUnwritableOutputFails) {
  for (const Words& words : {Words{"info"}, Words{"--help"}, Words{"inspect", tiny_model()}}) {
    const Finished run = run_serval(words, {.stdout_path = "/dev/full"});
    EXPECT_EQ(run.exit_code, 1);
    EXPECT_HAS(run.err, "serval: the output cannot be written");
  }
}

TEST(Info, TextAndJson) {
  const Finished text = run_serval({"info"}), json = run_serval({"info", "--json"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_EQ(text.err, "");
  EXPECT_HAS(text.out, "kernels");
  const Json info = Json::parse(json.out, "info --json");
  EXPECT_GE(info.at("threads").as_int(), 1);
  EXPECT_GT(info.at("memory_bytes").as_int(), 0);
}

TEST(Inspect, WhateverServalReadsAndWrites) {
  const std::string root = scratch_directory(), data = write_texts(root, 5), out = root + "/out";
  ASSERT_EQ(run_serval(train_words(data, out, {"--max-steps", "1", "--lora-r", "4"})).exit_code, 0);
  Finished run = run_serval({"inspect", tiny_model()});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.out, "llama: 2 layers, hidden 32");
  EXPECT_HAS(run.out, "768 tokens");
  run = run_serval({"inspect", out});
  EXPECT_HAS(run.out, "LoRA r 4 alpha 16 on all-linear");
  run = run_serval({"inspect", data});
  EXPECT_HAS(run.out, "5 rows");
  for (const std::string& path :
       {out + "/adapter_model.safetensors", out + "/merged", out, tiny_model(), data}) {
    run = run_serval({"inspect", path, "--json"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(run.err, "");
    const Json json = Json::parse(run.out, path);
    if (path == data) continue;
    const Json& tensors = json.at("tensors");
    EXPECT_EQ(tensors.size(), path == tiny_model() || path.ends_with("merged") ? 20u : 28u) << path;
    for (const Json& tensor : tensors.as_array()) EXPECT_GT(tensor.at("bytes").as_int(), 0);
  }
}

TEST(Plan, TextJsonAndProgram) {
  Finished run =
      run_serval({"plan", "--model", tiny_model(), "--max-length", "64", "--num-threads", "1", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json plan = Json::parse(run.out, "plan --json");
  int64_t total = 0, arena = 0;
  for (const auto& [kind, bytes] : plan.at("memory_bytes").as_object()) {
    total += bytes.as_int();
    if (kind == "activations" || kind == "workspace" || kind == "inputs" || kind == "arena gaps")
      arena += bytes.as_int();
  }
  EXPECT_EQ(plan.at("total_bytes").as_int(), total);
  EXPECT_EQ(plan.at("arena_bytes").as_int(), arena);
  EXPECT_EQ(plan.at("parameters").as_int(), 43168);
  EXPECT_EQ(plan.at("trained_parameters").as_int(), 16384);
  EXPECT_EQ(plan.at("step_tokens").as_int(), 8 * 64);
  run =
      run_serval({"plan", "--model", tiny_model(), "--max-length", "64", "--num-threads", "1", "--program"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.out, "layers.0.self_attn.q_proj");
}

TEST(Plan, ProfileOfAnotherMachine) {
  const std::string root = scratch_directory();
  const std::string profile = write_file(
      root, "p.json", R"({"name": "a machine", "product_flops_per_second": 1e9, "efficiency": 0.5})");
  const Finished run =
      run_serval({"plan", "--model", tiny_model(), "--max-length", "64", "--json", "--profile", profile});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json plan = Json::parse(run.out, "plan --json");
  EXPECT_EQ(plan.at("profile").as_string(), "a machine");
  EXPECT_NEAR(plan.at("step_seconds").as_double(), plan.at("step_flops").as_double() / 5e8, 1e-9);
}

// A GPU is planned for where there is none: the memory it has, and the programs that it would run.
TEST(Plan, ForAGpuThatIsElsewhere) {
  const std::string root = scratch_directory();
  const std::vector<std::string> words = {"plan", "--model", tiny_model(), "--max-length",
                                          "64",   "--json",  "--device"};
  const auto plan = [&](std::vector<std::string> more) {
    more.insert(more.begin(), words.begin(), words.end());
    return run_serval(more);
  };
  Finished run = plan({"cuda", "--device-profile", "h200"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json there = Json::parse(run.out, "plan --json");
  EXPECT_EQ(there.at("device").as_string(), "NVIDIA H200");
  EXPECT_EQ(there.at("free_bytes").as_int() >> 30, 139);
  EXPECT_EQ(there.at("fits"), Json(true));
  EXPECT_NEAR(there.at("step_seconds").as_double(), there.at("step_flops").as_double() / (0.81 * 6.97e14),
              1e-9);
  run = plan({"cpu"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json here = Json::parse(run.out, "plan --json");
  // Rows beside the weights hold an adapter's columns there, and a GPU has scratch of its own.
  EXPECT_NE(there.at("arena_bytes"), here.at("arena_bytes"));
  run = plan({"cuda"});
  if (run.exit_code == 0) {
    const Json measured = Json::parse(run.out, "plan --json");
    EXPECT_EQ(there.at("arena_bytes"), measured.at("arena_bytes"));
    EXPECT_EQ(there.at("memory_bytes").dump(), measured.at("memory_bytes").dump());
  } else {
    EXPECT_FAILS(run, 1, "--profile plans for a GPU that is not here (h200, or a file)");
  }
  // Too small a GPU is told so.
  const std::string small = write_file(
      root, "p.json",
      R"({"name": "small", "kind": "cuda", "memory_bytes": 1000000, "product_flops_per_second": 1e9})");
  run = plan({"cuda", "--profile", small});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Json::parse(run.out, "plan --json").at("fits"), Json(false));
  EXPECT_FAILS(plan({"cpu", "--profile", "h200"}), 2, "device is cpu but the profile is of NVIDIA H200");
  EXPECT_FAILS(plan({"cuda", "--profile", "h300"}), 1, "no built-in profile: there is h200");
  const std::string wrong =
      write_file(root, "wrong.json", R"({"name": "small", "kind": "cuda", "product_flops_per_second": 1e9})");
  EXPECT_FAILS(plan({"cuda", "--profile", wrong}), 1, "memory_bytes");
  const std::string kind = write_file(
      root, "kind.json", R"({"name": "x", "kind": "tpu", "memory_bytes": 5, "product_flops_per_second": 1})");
  EXPECT_FAILS(plan({"cuda", "--profile", kind}), 1, "kind is none of cuda and cpu");
}

}  // namespace
}  // namespace serval::testing
