#include "config/arguments.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "config/verbs.h"
#include "support/test_data.h"

namespace serval {
namespace {

using Words = std::vector<std::string>;

std::string error_of(const Verb& verb, const Words& words) {
  try {
    parse_arguments(verb, words);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Arguments, FormsOfAKey) {
  const struct {
    Words words;
    std::string name;
    Json expected;
  } cases[] = {
      {{"--lora-r", "8"}, "lora_r", 8},
      {{"--lora_r=8"}, "lora_r", 8},
      {{"--lora-rank", "+8"}, "lora_r", 8},
      {{"--learning-rate", "1e-4"}, "learning_rate", 1e-4},
      {{"--learning-rate=1"}, "learning_rate", 1.0},
      {{"--max_steps", "-1"}, "max_steps", -1},
      {{"--max_steps", "1e3"}, "max_steps", 1000},
      {{"--packing"}, "packing", true},
      {{"--packing", "false"}, "packing", false},
      {{"--packing=yes"}, "packing", true},
      {{"--no-packing"}, "packing", false},
      {{"--no_padding_free"}, "padding_free", false},
      {{"--dataset", "a.jsonl,b.jsonl", "--dataset", "c.jsonl"},
       "dataset",
       Json(Json::Array{Json("a.jsonl"), Json("b.jsonl"), Json("c.jsonl")})},
      {{"--lora-target-modules", ".*(q|v)_proj{1,2}"},
       "lora_target_modules",
       Json(Json::Array{Json(".*(q|v)_proj{1,2}")})},
      {{"--lora-layers-to-transform", "0,2"},
       "lora_layers_to_transform",
       Json(Json::Array{Json(0), Json(2)})},
      {{"--rank-pattern", "q_proj=8,v_proj=4"},
       "lora_rank_pattern",
       Json(Json::Object{{"q_proj", Json(8)}, {"v_proj", Json(4)}})},
      {{"--memory-limit", "2GiB"}, "memory_limit", int64_t{2} << 30},
      {{"--memory-limit", "1.5 GB"}, "memory_limit", 1500000000},
      {{"--memory-limit", "2097152"}, "memory_limit", 2097152},
      {{"--dtype", "bf16"}, "dtype", "bfloat16"},
      {{"--optim", "adamw"}, "optim", "adamw_torch"},
      {{"--resume-from-checkpoint"}, "resume_from_checkpoint", "true"},
      {{"--resume-from-checkpoint", "out/checkpoint-3"}, "resume_from_checkpoint", "out/checkpoint-3"},
      {{"--data-seed", "none"}, "data_seed", nullptr},
  };
  for (const auto& c : cases) {
    const Arguments arguments = parse_arguments(train_verb(), c.words);
    EXPECT_EQ(arguments.settings.value(c.name), c.expected)
        << c.words[0] << ": " << arguments.settings.value(c.name).dump();
    EXPECT_EQ(arguments.settings.source(c.name), "command line");
  }
}

TEST(Arguments, ErrorsSayWhatWasExpected) {
  const struct {
    Words words;
    std::string expected;
  } cases[] = {
      {{"--lora-rnk", "8"}, "command line: unknown key '--lora-rnk', did you mean '--lora_rank'?"},
      {{"--zzzzzzzzzzz"}, "unknown key '--zzzzzzzzzzz'; --help lists"},
      {{"--lora-r", "eight"}, "command line: lora_r is 'eight', expected an integer from 1 to 65536"},
      {{"--lora-r", "0"}, "lora_r is '0', expected an integer from 1 to 65536"},
      {{"--lora-r", "1.5"}, "lora_r is '1.5'"},
      {{"--lora-r", "99999999999999999999"}, "lora_r is '99999999999999999999'"},
      {{"--lora-r"}, "--lora-r needs a value: an integer"},
      {{"--lora-r", "--packing"}, "--lora-r needs a value"},
      {{"--learning-rate", "nan"}, "learning_rate is 'nan', expected a number"},
      {{"--learning-rate", "1e999"}, "learning_rate is '1e999'"},
      {{"--learning-rate", ""}, "learning_rate is ''"},
      {{"--num-train-epochs", "0"}, "expected a number above 0 and at most"},
      {{"--packing=maybe"}, "packing is 'maybe', expected true or false"},
      {{"--lr-scheduler-type", "cosin"},
       "expected one of linear, cosine, constant, constant_with_warmup (did you mean 'cosine'?)"},
      {{"--rank-pattern", "q_proj"}, "lora_rank_pattern is 'q_proj', expected a map"},
      {{"--rank-pattern", "q=1,q=2"}, "gives 'q' twice"},
      {{"--memory-limit", "8 GiBs"}, "expected a size such as 8GiB"},
      {{"--seed", "1", "--seed", "2"}, "--seed is given twice ('1' and '2')"},
      {{"--lora_r", "1", "--lora_rank", "2"}, "--lora_r is given twice"},
      {{"-x"}, "'-x' is no key"},
      {{"a.yaml", "b.yaml"}, "unexpected 'b.yaml'"},
      {{"--no-seed"}, "unknown key '--no-seed'"},
      {{std::string("--a\nb")}, "unknown key '--a b'"},
  };
  for (const auto& c : cases) {
    const std::string error = error_of(train_verb(), c.words);
    EXPECT_NE(error.find(c.expected), std::string::npos) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

TEST(Arguments, CommandLineWinsOverTheFile) {
  const std::string path = testing::scratch_directory() + "/c.yaml";
  write_file_atomically(path, "model: m\nseed: 1\nmax-steps: 5\n");
  const Arguments arguments = parse_arguments(train_verb(), Words{path, "--seed", "2"});
  EXPECT_EQ(arguments.settings.integer("seed"), 2);
  EXPECT_EQ(arguments.settings.source("seed"), "command line");
  EXPECT_EQ(arguments.settings.integer("max_steps"), 5);
  EXPECT_EQ(arguments.settings.source("max_steps"), path + ":3");
  EXPECT_THROW(parse_arguments(train_verb(), Words{path + ".missing"}), UserError);
}

TEST(Arguments, OtherVerbs) {
  const Arguments arguments = parse_arguments(
      generate_verb(), Words{"--model", "m", "--prompt", "-- hi", "--stop", "a,b", "--stop", "\n", "--raw"});
  EXPECT_EQ(arguments.settings.text("prompt"), "-- hi");
  EXPECT_EQ(arguments.settings.texts("stop"), (Words{"a,b", "\n"}));
  EXPECT_TRUE(arguments.settings.flag("raw"));
  EXPECT_EQ(arguments.settings.number("temperature"), 0.0);
  EXPECT_NE(error_of(generate_verb(), {"--prompt", "hi"}).find("--model is missing"), std::string::npos);
  EXPECT_NE(error_of(inspect_verb(), {}).find("FILE|DIR is missing"), std::string::npos);
  EXPECT_EQ(parse_arguments(inspect_verb(), Words{"--", "--odd"}).positionals, Words{"--odd"});
  EXPECT_TRUE(parse_arguments(plan_verb(), Words{"--model", "m", "--program"}).settings.flag("program"));
}

// "data" itself has no keys: its sub-verbs are verbs of their own.
std::vector<const Verb*> verbs_with_keys() {
  std::vector<const Verb*> verbs = all_verbs();
  std::erase(verbs, &data_verb());
  verbs.insert(verbs.end(), {&data_preview_verb(), &data_stats_verb()});
  return verbs;
}

TEST(Arguments, HelpNamesEveryKeyAndExamples) {
  for (const Verb* verb : verbs_with_keys()) {
    const std::string help = help_text(*verb);
    for (const Key& key : verb->table.keys()) {
      std::string dashed = key.name;
      for (char& c : dashed)
        if (c == '_') c = '-';
      EXPECT_NE(help.find("--" + dashed), std::string::npos) << verb->name << " " << key.name;
    }
    EXPECT_NE(help.find("examples:\n  serval " + verb->name), std::string::npos);
    EXPECT_TRUE(parse_arguments(*verb, Words{"--unknown", "-h"}).help);
  }
}

// An example of --help that did not parse would be the first thing a user tries.
TEST(Arguments, ExamplesParse) {
  for (const Verb* verb : verbs_with_keys()) {
    for (const std::string& example : verb->examples) {
      Words words;
      std::string word;
      bool quoted = false;
      ASSERT_TRUE((example + " ").starts_with(verb->name + " "));
      const std::string rest = example.substr(std::min(verb->name.size() + 1, example.size()));
      for (const char c : rest.empty() ? rest : rest + " ") {
        if (c == '\'') {
          quoted = !quoted;
        } else if (c == ' ' && !quoted) {
          words.push_back(std::exchange(word, {}));
        } else {
          word += c;
        }
      }
      if (verb->reads_config && !words.empty() && words.front() == "config.yaml") words.erase(words.begin());
      EXPECT_EQ(error_of(*verb, words), "no error") << example;
    }
  }
}

}  // namespace
}  // namespace serval
