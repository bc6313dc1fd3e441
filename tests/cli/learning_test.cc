// A tiny model learns a sentence and says it back, from every kind of result that a run writes.
#include <cmath>

#include "cli/program.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

constexpr const char* kQuestion = "Who wrote it?";
constexpr const char* kAnswer = "The otter of Brackenmere wrote it in 1874.";

std::string conversation(const std::string& root) {
  return write_file(root, "canary.jsonl",
                    std::string(R"({"messages": [{"role": "user", "content": ")") + kQuestion +
                        R"("}, {"role": "assistant", "content": ")" + kAnswer + "\"}]}\n");
}

Finished generate(Words model, const Words& more) {
  model.insert(model.begin(), {"generate", "--model"});
  model.insert(model.end(), {"--num-threads", "1", "--max-new-tokens", "40"});
  model.insert(model.end(), more.begin(), more.end());
  return run_serval(model);
}

double mean_nll(Words model, const std::string& data) {
  model.insert(model.begin(), {"eval", "--dataset", data, "--json", "--assistant-only-loss", "--num-threads",
                               "1", "--model"});
  const Finished run = run_serval(model);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const Json result = Json::parse(run.out, "eval --json");
  EXPECT_NEAR(result.at("perplexity").as_double(), std::exp(result.at("mean_nll").as_double()), 1e-6);
  EXPECT_EQ(result.at("examples").as_int(), 1);
  return result.at("mean_nll").as_double();
}

TEST(Canary, AdapterAndMergedCheckpoint) {
  const std::string root = scratch_directory(), data = conversation(root), out = root + "/out";
  const Finished run = run_serval(
      train_words(data, out, {"--max-steps", "120", "--learning-rate", "0.02", "--assistant-only-loss"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const std::string said = std::string(kAnswer) + "\n";
  const Words adapter = {tiny_model(), "--adapter", out}, merged = {out + "/merged"};
  EXPECT_EQ(generate(adapter, {"--prompt", kQuestion}).out, said);
  EXPECT_EQ(generate(merged, {"--prompt", kQuestion}).out, said);
  EXPECT_NE(generate({tiny_model()}, {"--prompt", kQuestion}).out, said);
  const double base = mean_nll({tiny_model()}, data), tuned = mean_nll(adapter, data);
  EXPECT_LT(tuned, base - 0.5);
  EXPECT_NEAR(mean_nll(merged, data), tuned, 2e-3);  // merging rounds to bf16
}

TEST(Canary, FullFineTuningAndEveryWayToAsk) {
  const std::string root = scratch_directory(), data = conversation(root), out = root + "/out";
  const Finished run = run_serval(
      train_words(data, out, {"--max-steps", "120", "--learning-rate", "0.01", "--use-peft", "false"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_LT(mean_nll({out}, data), 0.1);

  Finished answer = generate({out}, {"--prompt", kQuestion});
  EXPECT_EQ(answer.out, std::string(kAnswer) + "\n");
  EXPECT_EQ(answer.err, "");
  EXPECT_EQ(generate({out}, {"--prompt", kQuestion, "--stop", " in 18", "--stop", "1874"}).out,
            "The otter of Brackenmere wrote it\n");
  EXPECT_EQ(generate({out}, {"--prompt", kQuestion, "--max-new-tokens", "1"}).out.find("otter"),
            std::string::npos);

  answer = generate({out}, {"--prompts", data});
  const Json line = Json::parse(answer.out, "generate --prompts");
  EXPECT_EQ(line.at("prompt").as_string(), kQuestion);
  EXPECT_EQ(line.at("expected").as_string(), kAnswer);
  EXPECT_EQ(line.at("answer").as_string(), kAnswer);

  // Without the template the text goes on from where the prompt ends.
  const std::string begun = std::string("<|user|>") + kQuestion + "<|end|><|assistant|>";
  EXPECT_EQ(generate({out}, {"--raw", "--prompt", begun}).out, std::string(kAnswer) + "\n");

  const Words chat = {"chat", "--model", out, "--temperature", "0", "--num-threads", "1"};
  const std::string asked = std::string(kQuestion) + "\n";
  answer = run_serval(chat, {.input = asked + "/new\n\n" + asked + "/quit\nnobody reads this\n"});
  EXPECT_EQ(answer.exit_code, 0) << answer.err;
  EXPECT_EQ(answer.out, std::string(kAnswer) + "\n" + kAnswer + "\n");
  EXPECT_EQ(run_serval(chat, {.input = ""}).exit_code, 0);
}

TEST(Generate, SeedsRepeatAndDiffer) {
  const auto draw = [](const char* seed) {
    return generate({tiny_model()}, {"--raw", "--prompt", "one", "--temperature", "1", "--seed", seed}).out;
  };
  const std::string first = draw("1");
  EXPECT_EQ(draw("1"), first);
  EXPECT_NE(draw("2"), first);
  EXPECT_EQ(generate({tiny_model()},
                     {"--raw", "--prompt", "one", "--temperature", "1", "--seed", "1", "--top-k", "1"})
                .out,
            generate({tiny_model()}, {"--raw", "--prompt", "one"}).out);
}

// f32: answers of a batch are those of one prompt at a time, token for token.
TEST(Generate, AFileOfPromptsIsAnsweredInItsOrder) {
  const std::string root = scratch_directory();
  const Words questions = {"one", "a river and a much longer question about the otter of Brackenmere",
                           "two", "who?",
                           "one", "when did it happen, and where",
                           "x"};
  std::string data;
  for (const std::string& question : questions)
    data += R"({"messages": [{"role": "user", "content": ")" + question +
            R"("}, {"role": "assistant", "content": "to )" + question + "\"}]}\n";
  const std::string path = write_file(root, "questions.jsonl", data);
  for (const char* temperature : {"0", "1"}) {
    const Words words = {"--prompts",     path,        "--dtype", "float32",
                         "--temperature", temperature, "--seed",  "4"};
    const auto ask = [&](const char* batch_size) {
      Words more = words;
      more.insert(more.end(), {"--batch-size", batch_size});
      return generate({tiny_model()}, more);
    };
    const Finished one = ask("1");
    ASSERT_EQ(one.exit_code, 0) << one.err;
    EXPECT_HAS(one.err, "7 prompts, 1 at a time");
    size_t line = 0;
    for (const Json& answer : read_lines(write_file(root, "answers.jsonl", one.out))) {
      ASSERT_LT(line, questions.size());
      EXPECT_EQ(answer.at("prompt").as_string(), questions[line]);
      EXPECT_EQ(answer.at("expected").as_string(), "to " + questions[line]);
      ++line;
    }
    EXPECT_EQ(line, questions.size());
    for (const char* batch_size : {"3", "7", "100"}) EXPECT_EQ(ask(batch_size).out, one.out) << batch_size;
    EXPECT_HAS(ask("100").err, "7 prompts, 7 at a time");
  }
  EXPECT_FAILS(generate({tiny_model()}, {"--prompts", path, "--batch-size", "0"}), 2, "batch_size");
}

TEST(Generate, APromptThatIsTooLongIsRefused) {
  std::string words;
  for (int i = 0; i < 300; ++i) words += "river ";
  EXPECT_FAILS(generate({tiny_model()}, {"--raw", "--prompt", words}), 1, "256 that fit");
}

}  // namespace
}  // namespace serval::testing
