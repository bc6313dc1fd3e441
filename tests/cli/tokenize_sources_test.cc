// serval tokenize on tokenizer files that are no tokenizer.json.
#include "cli/program.h"

namespace serval::testing {
namespace {

Finished tokenize(std::vector<std::string> words, const std::string& input) {
  words.insert(words.begin(), "tokenize");
  return run_serval(words, {.input = input});
}

TEST(TokenizeSources, EveryKindOfFileGivesTheIdsOfItsLibrary) {
  for (const char* name : {"spm_unigram", "spm_bpe", "hf_llama", "files_qwen2", "files_bert", "tiktoken",
                           "tekken", "gguf_gpt2"}) {
    const std::string directory = fixture(std::string("text/sources/") + name);
    const Json cases = Json::parse(read_file(directory + "/cases.json"), name);
    std::string input, expected;
    for (const Json& one : cases.at("cases").as_array()) {
      const std::string& text = one.at("text").as_string();
      if (text.find_first_of("\r\n") != std::string::npos) continue;
      input += text + "\n";
      std::string ids;
      for (const Json& id : one.at("ids").as_array()) ids += (ids.empty() ? "" : " ") + id.dump();
      expected += ids + "\n";
    }
    std::vector<std::string> words = {"--tokenizer", directory};
    if (!cases.at("add_special_tokens").as_bool()) words.push_back("--no-special");
    const Finished run = tokenize(words, input);
    ASSERT_EQ(run.exit_code, 0) << name << run.err;
    EXPECT_EQ(run.out, expected) << name;
    EXPECT_NE(run.err.find("the tokenizer is read from"), std::string::npos) << run.err;
  }
}

TEST(TokenizeSources, AnUnknownRankFileNeedsAPattern) {
  const std::string path = write_file(scratch_directory(), "mine.tiktoken",
                                      read_file(fixture("text/sources/tiktoken/o200k_base.tiktoken")));
  Finished run = tokenize({"--tokenizer", path}, "x\n");
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_NE(run.err.find("--tokenizer-pattern"), std::string::npos) << run.err;
  run = tokenize({"--tokenizer", path, "--tokenizer-pattern", "o200k_base"}, "x\n");
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST(TokenizeSources, HostileFilesEndInOneLine) {
  const std::string root = scratch_directory();
  for (const auto& [name, content] :
       std::vector<std::pair<std::string, std::string>>{{"a.gguf", "GGUF\x03"},
                                                        {"tokenizer.model", "\x0A\x7F"},
                                                        {"b.tiktoken", "\n\n"},
                                                        {"tekken.json", "["}}) {
    const Finished run = tokenize({"--tokenizer", write_file(root, name, content)}, "x\n");
    EXPECT_EQ(run.exit_code, 1) << name;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
    EXPECT_EQ(run.out, "");
  }
}

}  // namespace
}  // namespace serval::testing
