// What a training run reads and what it leaves behind.
#include "cli/program.h"
#include "formats/safetensors.h"
#include "train/checkpoints.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

struct DatasetCase {
  const char* name;
  const char* file;
  const char* content;
  Words more;
};

const DatasetCase kDatasets[] = {
    {"Text", "d.jsonl", "{\"text\": \"one two three\"}\n{\"text\": \"four\"}\n", {}},
    {"OtherTextColumn", "d.jsonl", "{\"body\": \"one two three\"}\n", {"--dataset-text-field", "body"}},
    {"Messages",
     "d.jsonl",
     "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": "
     "\"yes\"}]}\n",
     {"--assistant-only-loss", "true"}},
    {"MessagesInJsonArray",
     "d.json",
     "[{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": "
     "\"yes\"}]}]",
     {}},
    {"Alpaca",
     "d.json",
     "[{\"instruction\": \"add\", \"input\": \"1 1\", \"output\": \"2\"}, {\"instruction\": \"say\", "
     "\"input\": \"\", \"output\": \"a\"}]",
     {}},
    {"PromptCompletion", "d.jsonl", "{\"prompt\": \"one \", \"completion\": \"two\"}\n", {}},
    {"PromptCompletionWhole",
     "d.jsonl",
     "{\"prompt\": \"one \", \"completion\": \"two\"}\n",
     {"--completion-only-loss", "false"}},
    {"ShareGpt",
     "d.jsonl",
     "{\"conversations\": [{\"from\": \"human\", \"value\": \"hi\"}, {\"from\": \"gpt\", \"value\": "
     "\"yes\"}]}\n",
     {"--last-turn-only"}},
    {"Tokens", "d.jsonl", "{\"input_ids\": [5, 6, 7], \"labels\": [-100, 6, 7]}\n", {}},
    {"Columns",
     "d.jsonl",
     "{\"q\": \"hi\", \"a\": \"yes\"}\n",
     {"--dataset-columns", "question=q,answer=a", "--truncation-mode", "drop"}},
    {"PromptCompletionMessages",
     "d.jsonl",
     "{\"prompt\": [{\"role\": \"user\", \"content\": \"hi\"}], \"completion\": [{\"role\": \"assistant\", "
     "\"content\": \"yes\"}]}\n",
     {}},
};

class Dataset : public ::testing::TestWithParam<DatasetCase> {};

TEST_P(Dataset, Trains) {
  const std::string root = scratch_directory();
  const std::string data = write_file(root, GetParam().file, GetParam().content);
  Words more = {"--max-steps", "1", "--preview", "1"};
  more.insert(more.end(), GetParam().more.begin(), GetParam().more.end());
  const Finished run = run_serval(train_words(data, root + "/out", more));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "");  // results are files
  EXPECT_TRUE(file_exists(root + "/out/adapter_model.safetensors"));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Dataset, ::testing::ValuesIn(kDatasets),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(Train, LeavesCompleteFiles) {
  const std::string root = scratch_directory(), data = write_texts(root, 12), out = root + "/out";
  const Finished run = run_serval(
      train_words(data, out,
                  {"--max-steps", "6", "--logging-steps", "1", "--eval-dataset", data, "--eval-steps", "3",
                   "--save-steps", "2", "--save-total-limit", "2", "--packing"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(files_of_run(out),
            (Words{"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "checkpoint-4",
                   "checkpoint-6", "loss.svg", "merged", "metrics.jsonl", "recompute.json", "serval.yaml"}));
  EXPECT_EQ(
      files_of_run(out + "/checkpoint-6"),
      (Words{"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja",
             "optimizer.safetensors", "recompute.json", "serval.yaml", "state.json", "trainer_state.json"}));
  EXPECT_EQ(list_directory(out + "/merged"),
            (Words{"chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
                   "tokenizer.json", "tokenizer_config.json"}));
  int64_t losses = 0, evaluations = 0;
  for (const Json& line : read_lines(out + "/metrics.jsonl")) {
    if (line.contains("eval_loss")) {
      EXPECT_EQ(line.at("step").as_int(), ++evaluations * 3);
      continue;
    }
    EXPECT_EQ(line.at("step").as_int(), ++losses);
    for (const char* key :
         {"epoch", "loss", "learning_rate", "grad_norm", "mean_token_accuracy", "num_tokens"})
      EXPECT_TRUE(line.at(key).is_number()) << key;
  }
  EXPECT_EQ(losses, 6);
  EXPECT_EQ(evaluations, 2);
  const Json state = Json::parse(read_file(out + "/checkpoint-6/trainer_state.json"), "trainer_state.json");
  EXPECT_EQ(state.at("global_step").as_int(), 6);
  EXPECT_EQ(state.at("max_steps").as_int(), 6);
  EXPECT_EQ(state.at("log_history").size(), 8u);
  const std::string plot = read_file(out + "/loss.svg");
  EXPECT_TRUE(plot.starts_with("<svg"));
  EXPECT_TRUE(plot.ends_with("</svg>\n"));
  EXPECT_HAS(plot, "<polyline");
  EXPECT_HAS(plot, "<circle");
  EXPECT_EQ(plot.find("nan"), std::string::npos);
  // An adapter's matrix B begins at zero: training moved it.
  const SafetensorsFile adapter(out + "/adapter_model.safetensors");
  const auto* b = adapter.find("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight");
  ASSERT_NE(b, nullptr);
  std::vector<float> values(32 * 16);
  adapter.read(*b, values.data(), DType::f32);
  EXPECT_NE(values[0], 0.0F);
}

TEST(Train, FullFineTuningWritesACheckpoint) {
  const std::string root = scratch_directory(), data = write_texts(root, 4), out = root + "/out";
  Finished run = run_serval(train_words(data, out, {"--max-steps", "2", "--use-peft", "false"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_FALSE(file_exists(out + "/adapter_config.json"));
  EXPECT_FALSE(same_bytes(out + "/model.safetensors", tiny_model() + "/model.safetensors"));
  run = run_serval({"eval", "--model", out, "--dataset", data, "--num-threads", "1"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST(Train, FrozenWeightsKeepTheirBytes) {
  const std::string root = scratch_directory(), data = write_texts(root, 4), out = root + "/out";
  const Finished run = run_serval(train_words(data, out,
                                              {"--max-steps", "2", "--use-peft", "false", "--learning-rate",
                                               "0.01", "--frozen", "model.embed_tokens"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const SafetensorsFile before(tiny_model() + "/model.safetensors"), after(out + "/model.safetensors");
  const auto values = [](const SafetensorsFile& file, const char* name) {
    const SafetensorsEntry* entry = file.find(name);
    std::vector<float> list(static_cast<size_t>((entry->end - entry->begin) / 2));
    file.read(*entry, list.data(), DType::f32);
    return list;
  };
  const char *embedding = "model.embed_tokens.weight", *linear = "model.layers.0.mlp.up_proj.weight";
  EXPECT_EQ(values(before, embedding), values(after, embedding));
  EXPECT_NE(values(before, linear), values(after, linear));
}

TEST(Train, ConfigFileAndCommandLine) {
  const std::string root = scratch_directory(), data = write_texts(root, 4);
  const std::string config =
      write_file(root, "run.yaml",
                 "model_name_or_path: " + tiny_model() + "\ndataset: " + data + "\noutput_dir: " + root +
                     "/out\nmax_steps: 9\nnum_threads: 1\nmax_length: 64\nlogging_steps: 1\n");
  Finished run = run_serval({"train", config, "--max_steps=2"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(read_lines(root + "/out/metrics.jsonl").size(), 2u);
  // The written configuration repeats the run.
  run = run_serval({"train", root + "/out/serval.yaml", "--output-dir", root + "/again"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(same_bytes(root + "/out/adapter_model.safetensors", root + "/again/adapter_model.safetensors"));
}

TEST(Train, DryRunWritesNothing) {
  const std::string root = scratch_directory(), data = write_texts(root, 4), out = root + "/out";
  const Finished run = run_serval(train_words(data, out, {"--dry-run"}));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_HAS(run.err, "learning_rate");
  EXPECT_HAS(run.err, "fixed overhead");
  EXPECT_EQ(list_directory(root), Words{"texts.jsonl"});
}

TEST(Train, AnEarlierRunIsNotOverwritten) {
  const std::string root = scratch_directory(), data = write_texts(root, 4), out = root + "/out";
  const Words steps = {"--max-steps", "2", "--save-steps", "1"};
  ASSERT_EQ(run_serval(train_words(data, out, steps)).exit_code, 0);
  const std::string before = read_file(out + "/adapter_model.safetensors");
  EXPECT_FAILS(run_serval(train_words(data, out, {"--max-steps", "1", "--seed", "7"})), 1,
               "--overwrite-output-dir");
  EXPECT_EQ(read_file(out + "/adapter_model.safetensors"), before);
  const Finished run =
      run_serval(train_words(data, out, {"--max-steps", "1", "--seed", "7", "--overwrite-output-dir"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_NE(read_file(out + "/adapter_model.safetensors"), before);
  EXPECT_TRUE(checkpoint_steps(out).empty());  // of the run before
}

TEST(Train, AFailingRunLeavesTheEarlierOneAlone) {
  const std::string root = scratch_directory(), data = write_texts(root, 4), out = root + "/out";
  ASSERT_EQ(run_serval(train_words(data, out, {"--max-steps", "2", "--save-steps", "1"})).exit_code, 0);
  Json changes = Json::object();
  changes.set("intermediate_size", Json(96));
  const std::string model = model_folder(root + "/model", changes);
  write_file(model, "model.safetensors", read_file(tiny_model() + "/model.safetensors"));
  const Finished run = run_serval({"train", "--model", model, "--dataset", data, "--output-dir", out,
                                   "--overwrite-output-dir", "--num-threads", "1"});
  EXPECT_FAILS(run, 1, "expected [96, 32]");
  EXPECT_EQ(checkpoint_steps(out), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(read_lines(out + "/metrics.jsonl").size(), 2u);
}

TEST(Train, ContinuesFromAnAdapter) {
  const std::string root = scratch_directory(), data = write_texts(root, 4);
  ASSERT_EQ(run_serval(train_words(data, root + "/first", {"--max-steps", "3", "--lora-r", "4"})).exit_code,
            0);
  const Finished run = run_serval(
      train_words(data, root + "/second",
                  {"--max-steps", "1", "--learning-rate", "0", "--adapter-name-or-path", root + "/first"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(
      same_bytes(root + "/first/adapter_model.safetensors", root + "/second/adapter_model.safetensors"));
}

// Between what it needs as it likes and with whole blocks computed again the run recomputes some tensors, and
// ends in the same bits; so does a run that goes on, with the choice of its checkpoint.
TEST(Train, MemoryLimitIsFittedTensorByTensor) {
  const std::string root = scratch_directory(), data = write_texts(root, 8);
  const std::vector<std::string> common = {"--max-steps",
                                           "4",
                                           "--save-steps",
                                           "2",
                                           "--device",
                                           "cpu",
                                           "--dtype",
                                           "float32",
                                           "--per-device-train-batch-size",
                                           "4"};
  const auto plan = [&](std::vector<std::string> more) {
    std::vector<std::string> words = train_words(data, root + "/none", common);
    words[0] = "plan";
    words.push_back("--json");
    words.insert(words.end(), more.begin(), more.end());
    const Finished run = run_serval(words);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return Json::parse(run.out, "plan --json");
  };
  const int64_t cheap = plan({"--recompute", "cheap"}).at("total_bytes").as_int(),
                blocks = plan({"--recompute", "blocks"}).at("total_bytes").as_int();
  ASSERT_LT(blocks, cheap);
  const auto limit = [](int64_t bytes) {
    return std::vector<std::string>{"--memory-limit", std::to_string(bytes)};
  };
  EXPECT_EQ(plan(limit(cheap)).at("recompute").as_string(), "cheap");
  EXPECT_LE(plan(limit(blocks)).at("total_bytes").as_int(), blocks);
  const int64_t between = (cheap + blocks) / 2;
  const Json fitted = plan(limit(between));
  EXPECT_EQ(fitted.at("recompute").as_string(), "fitted");
  EXPECT_LE(fitted.at("total_bytes").as_int(), between);

  const auto train = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> words = common;
    words.insert(words.end(), more.begin(), more.end());
    return run_serval(train_words(data, out, words));
  };
  ASSERT_EQ(train(root + "/free", {"--recompute", "cheap"}).exit_code, 0);
  Finished run = train(root + "/tight", limit(between));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "recompute: ");
  EXPECT_HAS(run.err, " of 2 layers");
  EXPECT_HAS(run.err, "% FLOPs");
  for (const char* name : {"/metrics.jsonl", "/adapter_model.safetensors"})
    EXPECT_TRUE(same_bytes(root + "/free" + name, root + "/tight" + name)) << name;
  const std::string choice = read_file(root + "/tight/checkpoint-2/recompute.json");
  EXPECT_EQ(choice, read_file(root + "/tight/recompute.json"));
  EXPECT_HAS(choice, "fitted");

  // The choice of the checkpoint holds although more memory is there now.
  remove_tree(root + "/tight/checkpoint-4");
  run = train(root + "/tight", {"--memory-limit", std::to_string(2 * cheap), "--resume-from-checkpoint"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(read_file(root + "/tight/recompute.json"), choice);
  for (const char* name : {"/metrics.jsonl", "/adapter_model.safetensors"})
    EXPECT_TRUE(same_bytes(root + "/free" + name, root + "/tight" + name)) << name;

  // Less memory than the choice needs: it is made again.
  remove_tree(root + "/tight/checkpoint-4");
  run = train(root + "/tight", {"--memory-limit", std::to_string(blocks), "--resume-from-checkpoint"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "chosen again");
  EXPECT_TRUE(
      same_bytes(root + "/free/adapter_model.safetensors", root + "/tight/adapter_model.safetensors"));

  write_file(root + "/tight/checkpoint-2", "recompute.json", "{\"recompute\": \"most\"}");
  remove_tree(root + "/tight/checkpoint-4");
  EXPECT_FAILS(train(root + "/tight", {"--resume-from-checkpoint"}), 1, "recompute.json");
}

// Layer inputs that wait in host memory: the same bits, also in a run that goes on.
TEST(Train, ActivationOffloadingChangesNoBit) {
  const std::string root = scratch_directory(), data = write_texts(root, 8);
  const std::string model = model_folder(root + "/model", [] {
    Json changes = Json::object();
    changes.set("num_hidden_layers", Json(5));
    return changes;
  }());
  const auto train = [&](const std::string& out, const Words& more) {
    Words words = {"train",
                   "--init",
                   model + "/config.json",
                   "--dataset",
                   data,
                   "--output-dir",
                   root + out,
                   "--num-threads",
                   "1",
                   "--max-length",
                   "64",
                   "--deterministic",
                   "--max-steps",
                   "4",
                   "--save-steps",
                   "2",
                   "--use-peft",
                   "true",
                   "--lora-dropout",
                   "0.1"};
    words.insert(words.end(), more.begin(), more.end());
    return run_serval(words);
  };
  Finished run = train("/plain", {});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  run = train("/far", {"--activation-offloading", "true"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "recompute blocks");
  EXPECT_TRUE(same_bytes(root + "/plain/metrics.jsonl", root + "/far/metrics.jsonl"));
  EXPECT_TRUE(same_bytes(root + "/plain/adapter_model.safetensors", root + "/far/adapter_model.safetensors"));
  remove_tree(root + "/far/checkpoint-4");
  run = train("/far", {"--activation-offloading", "true", "--resume-from-checkpoint"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(same_bytes(root + "/plain/adapter_model.safetensors", root + "/far/adapter_model.safetensors"));

  const Finished planned =
      run_serval({"plan", "--init", model + "/config.json", "--max-length", "64", "--use-peft", "true",
                  "--activation-offloading", "--program", "--device", "cpu"});
  ASSERT_EQ(planned.exit_code, 0) << planned.err;
  EXPECT_HAS(planned.out, "offloaded inputs");
  EXPECT_HAS(planned.out, "copy_to_host start");
  EXPECT_HAS(planned.out, "copy_from_host wait");
}

TEST(Train, MemoryLimitIsRefusedWithAdvice) {
  const std::string root = scratch_directory(), data = write_texts(root, 4);
  const Finished run =
      run_serval(train_words(data, root + "/out", {"--memory-limit", "10MiB", "--use-peft", "false"}));
  EXPECT_FAILS(run, 1, "memory_limit");
  EXPECT_HAS(run.err, "--per-device-train-batch-size 4");
  EXPECT_HAS(run.err, "LoRA");
  EXPECT_FALSE(directory_exists(root + "/out"));
}

}  // namespace
}  // namespace serval::testing
