#include "config/train_config.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "config/arguments.h"
#include "config/train_keys.h"
#include "support/test_data.h"

namespace serval {
namespace {

const std::string kBase = "model: m\ndataset: d.jsonl\n";

ResolvedTrain resolve(const std::string& yaml) {
  return resolve_train(parse_config(train_table(), yaml, "c.yaml"));
}

std::string error_of(const std::string& yaml) {
  try {
    resolve(yaml);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(TrainConfig, Defaults) {
  const TrainConfig c = resolve(kBase).config;
  EXPECT_EQ(c.model_name_or_path, "m");
  EXPECT_EQ(c.dataset, std::vector<DatasetSource>{{.path = "d.jsonl"}});
  EXPECT_TRUE(c.use_peft);
  EXPECT_EQ(c.lora_r, 16);
  EXPECT_EQ(c.lora_alpha, 16);
  EXPECT_EQ(c.lora_dropout, 0.0);
  EXPECT_EQ(c.lora_target_modules, std::vector<std::string>{"all-linear"});
  EXPECT_EQ(c.learning_rate, 2e-4);
  EXPECT_EQ(c.lr_scheduler_type, "linear");
  EXPECT_EQ(c.per_device_train_batch_size, 8);
  EXPECT_EQ(c.num_train_epochs, 3.0);
  EXPECT_EQ(c.max_steps, -1);
  EXPECT_EQ(c.max_length, 1024);
  EXPECT_EQ(c.seed, 42);
  EXPECT_EQ(c.data_seed, 42);
  EXPECT_EQ(c.max_grad_norm, 1.0);
  EXPECT_EQ(c.save_steps, 500);
  EXPECT_EQ(c.eval_strategy, "no");
  EXPECT_EQ(c.recompute, "auto");
  EXPECT_FALSE(c.completion_only_loss.has_value());
}

TEST(TrainConfig, DefaultsThatDependOnOthers) {
  EXPECT_EQ(resolve(kBase + "use_peft: false\n").config.learning_rate, 2e-5);
  EXPECT_EQ(resolve(kBase + "use_peft: false\nlearning_rate: 3e-4\n").config.learning_rate, 3e-4);
  EXPECT_FALSE(resolve("init: config.json\ndataset: d\n").config.use_peft);
  EXPECT_TRUE(resolve("init: config.json\ndataset: d\nuse_peft: true\n").config.use_peft);
  EXPECT_EQ(resolve(kBase + "seed: 7\n").config.data_seed, 7);
  EXPECT_EQ(resolve(kBase + "eval_dataset: e\n").config.eval_strategy, "epoch");
  EXPECT_EQ(resolve(kBase + "eval_dataset: e\neval_steps: 5\n").config.eval_strategy, "steps");
  EXPECT_EQ(resolve(kBase + "eval_dataset: e\neval_strategy: steps\n").config.eval_steps, 10);
  EXPECT_EQ(resolve(kBase + "gradient_checkpointing: true\n").config.recompute, "blocks");
  EXPECT_EQ(resolve(kBase + "gradient_checkpointing: false\n").config.recompute, "cheap");
  EXPECT_EQ(resolve(kBase + "activation_offloading: true\n").config.recompute, "blocks");
  EXPECT_EQ(resolve(kBase + "activation_offloading: true\nrecompute: auto\n").config.recompute, "auto");
  const auto kept = resolve(kBase + "activation_offloading: true\ngradient_checkpointing: false\n");
  EXPECT_EQ(kept.config.recompute, "cheap");
  EXPECT_EQ(kept.notes.size(), 1u);
  EXPECT_EQ(resolve(kBase + "resume_from_checkpoint: false\n").config.resume_from_checkpoint, "");
  EXPECT_EQ(resolve(kBase + "max_steps: 5\nnum_train_epochs: 1\n").notes.size(), 1u);
}

TEST(TrainConfig, Conflicts) {
  const struct {
    std::string yaml, expected;
  } cases[] = {
      {"dataset: d\n", "model_name_or_path is missing"},
      {"model: m\n", "dataset is missing"},
      {"model: m\ninit: c\ndataset: d\n", "c.yaml:2: init contradicts model_name_or_path (c.yaml:1)"},
      {kBase + "warmup_steps: 3\nwarmup_ratio: 0.1\n",
       "c.yaml:3: warmup_steps contradicts warmup_ratio (c.yaml:4)"},
      {kBase + "warmup_steps: 3\nlr_scheduler_type: constant\n", "use constant_with_warmup"},
      {kBase + "max_steps: 0\n", "c.yaml:3: max_steps is 0"},
      {kBase + "use_peft: false\nlora_r: 8\n", "c.yaml:4: lora_r contradicts use_peft (c.yaml:3)"},
      {kBase + "adapter: a\nlora_r: 8\n", "lora_r contradicts adapter_name_or_path"},
      {kBase + "adapter: a\nuse_peft: false\n", "adapter_name_or_path contradicts use_peft"},
      {kBase + "lora_target_modules: []\n", "c.yaml:3: lora_target_modules is empty"},
      {kBase + "gradient_checkpointing: true\nrecompute: none\n",
       "gradient_checkpointing contradicts recompute"},
      {kBase + "use_peft: false\nlora_modules_to_save: [lm_head]\n",
       "lora_modules_to_save contradicts use_peft"},
      {kBase + "special_tokens: {cls_token: a}\n", "'cls_token' is none of bos_token"},
      {kBase + "special_tokens: {pad_token: ''}\n", "pad_token is empty"},
      {kBase + "special_tokens: {eos_token: a}\neos_token: b\n", "eos_token contradicts special_tokens"},
      {kBase + "new_tokens: ['']\n", "an empty text is no token"},
      {kBase + "new_token_interpolation: 0.3\n", "new_token_interpolation contradicts new_token_init"},
      {kBase + "eval_steps: 5\n", "eval_dataset is missing"},
      {kBase + "eval_dataset: e\neval_strategy: epoch\neval_steps: 5\n",
       "eval_steps contradicts eval_strategy"},
      {kBase + "save_strategy: epoch\nsave_steps: 5\n", "save_steps contradicts save_strategy"},
      {kBase + "learning_rat: 1\n", "c.yaml:3: unknown key 'learning_rat', did you mean 'learning_rate'?"},
      {kBase + "base_model: n\n",
       "c.yaml:3: model_name_or_path is given twice (first at c.yaml:1; as 'base_model'"},
      {kBase + "seed: [1]\n", "c.yaml:3: seed is a list, expected an integer"},
      {kBase + "seed: {a: 1}\n", "c.yaml:3: seed is a map, expected an integer"},
      {kBase + "seed:\n", "c.yaml:3: seed is nothing, expected an integer"},
      {kBase + "lora_rank_pattern: {q_proj: x}\n", "c.yaml:3: lora_rank_pattern is 'x'"},
      {kBase + "eval_dataset: [a, [b]]\n", "c.yaml:3: eval_dataset is a list"},
  };
  for (const auto& c : cases) {
    const std::string error = error_of(c.yaml);
    EXPECT_NE(error.find(c.expected), std::string::npos) << c.yaml << error;
  }
  EXPECT_NO_THROW(resolve_train(parse_config(train_table(), "model: m\n", "c"), /*needs_dataset=*/false));
}

TEST(TrainConfig, WrittenConfigurationReadsBack) {
  const std::string cases[] = {
      kBase,
      "init: c.json\ndataset: [a, 'b,c', \"tab\\there\"]\nwarmup_ratio: 0.1\nlr_scheduler_type: cosine\n",
      kBase + "use_peft: false\ntrainable: ['.*norm.*']\nfrozen: [embed]\nmax_steps: 7\n",
      kBase +
          "lora_rank_pattern: {q_proj: 8, 'layers\\.0\\.': 4}\nlora_layers_to_transform: [0, "
          "2]\nadam_epsilon: 1e-7\n",
      kBase + "adapter: a\neval_dataset: e\neval_strategy: steps\nsave_strategy: 'no'\nsave_total_limit: 2\n",
      kBase +
          "gradient_checkpointing: true\ncompletion_only_loss: false\nmemory_limit: 8GiB\nnum_threads: 3\n",
      kBase +
          "seed: 9007199254740992\noutput_dir: 'no'\nlearning_rate: 1.2345678901234567e-5\nresume: true\n",
      kBase + "eval_dataset: 'héllo: # \"x\"'\ndtype: bf16\nnum_train_epochs: 0.5\n",
  };
  for (const std::string& yaml : cases) {
    const ResolvedTrain first = resolve(yaml);
    const ResolvedTrain second = resolve(to_yaml(first.settings));
    EXPECT_EQ(first.config, second.config) << to_yaml(first.settings);
    for (const Key& key : train_table().keys())
      EXPECT_EQ(first.settings.value(key.name), second.settings.value(key.name)) << key.name;
  }
}

TEST(TrainConfig, PrintsEveryKeyWithItsSource) {
  const std::string text = print_resolved(resolve(kBase + "seed: 7\nlora_r: 16\n").settings);
  for (const Key& key : train_table().keys())
    EXPECT_NE(text.find(" " + key.name + " "), std::string::npos) << key.name;
  EXPECT_NE(text.find("* seed"), std::string::npos);
  EXPECT_NE(text.find("  lora_r "), std::string::npos) << "a value equal to its default is not marked";
  EXPECT_NE(text.find("c.yaml:3"), std::string::npos);
  EXPECT_NE(text.find("default with LoRA"), std::string::npos);
}

// Each key must reach its field: setting it to something else changes the struct.
TEST(TrainConfig, EveryKeyReachesTheStruct) {
  const TrainConfig base = resolve(kBase + "eval_dataset: e\n").config;
  for (const TrainRow& row : train_rows()) {
    const Key& key = row.key;
    std::string value = "zz";
    if (!key.choices.empty()) {
      const std::string now = resolve(kBase + "eval_dataset: e\n").settings.text_or(key.name, "");
      value = key.choices.front() != now ? key.choices.front() : key.choices.back();
      if (value == now) continue;  // a key of one choice
    } else if (key.kind == Kind::flag) {
      const Json now = resolve(kBase + "eval_dataset: e\n").settings.value(key.name);
      value = now.is_bool() && now.as_bool() ? "false" : "true";
    } else if (key.kind == Kind::integer || key.kind == Kind::integers) {
      value = "11";
    } else if (key.kind == Kind::number) {
      value = "0.25";
    } else if (key.kind == Kind::bytes) {
      value = "8GiB";
    } else if (key.kind == Kind::counts) {
      value = "{q: 3}";
    } else if (key.kind == Kind::names) {
      value = key.name == "special_tokens" ? "{pad_token: q}" : "{prompt: q}";
    }
    std::string yaml = key.name == "init"      ? "dataset: d.jsonl\n"
                       : key.name == "dataset" ? "model: m\n"
                                               : kBase;
    if (key.name == "model_name_or_path") yaml = "dataset: d.jsonl\n";
    yaml += key.name == "eval_dataset" ? "" : "eval_dataset: e\n";
    // Keys that go with another one.
    if (key.name == "instruction_part") yaml += "response_part: r\n";
    if (key.name == "response_part") yaml += "instruction_part: i\n";
    if (key.name == "packing_strategy") {
      yaml += "packing: true\n";
      value = "wrapped";
    }
    if (key.name == "stochastic_rounding") {  // only beside an optimizer that rounds
      yaml += "optim: adamw_8bit\n";
      EXPECT_NE(resolve(yaml + "stochastic_rounding: true\n").config, resolve(yaml).config);
      continue;
    }
    if (key.name == "new_token_interpolation") {
      yaml += "new_token_init: interpolation\n";
      EXPECT_NE(resolve(yaml + "new_token_interpolation: 0.25\n").config, resolve(yaml).config);
      continue;
    }
    EXPECT_NE(resolve(yaml + key.name + ": " + value + "\n").config, base) << key.name;
  }
}

TEST(TrainConfig, CommittedDocumentationIsCurrent) {
  const std::string path = std::string(SERVAL_SOURCE_DIR) + "/docs/configuration.md";
  if (std::getenv("SERVAL_UPDATE_DOCS") != nullptr) write_file_atomically(path, configuration_markdown());
  EXPECT_EQ(read_file(path), configuration_markdown()) << "run SERVAL_UPDATE_DOCS=1 config_tests";
}

}  // namespace
}  // namespace serval
