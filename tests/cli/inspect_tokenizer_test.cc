// serval inspect on tokenizers of every source, and on GGUF files.
#include "cli/program.h"

namespace serval::testing {
namespace {

TEST(InspectTokenizer, EverySource) {
  const std::pair<const char*, const char*> cases[] = {{"gguf_llama/vocabulary.gguf", "GGUF version 3"},
                                                       {"tekken/tekken.json", "tekken vocabulary"},
                                                       {"tiktoken/o200k_base.tiktoken", "tiktoken ranks"},
                                                       {"files_bert/vocab.txt", "WordPiece vocabulary"},
                                                       {"spm_bpe/tokenizer.model", "SentencePiece model"},
                                                       {"files_gpt2/vocab.json", "BPE vocabulary and merges"},
                                                       {"files_bert", "tokenizer"},
                                                       {"spm_unigram", "tokenizer"},
                                                       {"gguf_gpt2", "tokenizer"}};
  for (const auto& [name, kind] : cases) {
    const std::string path = fixture(std::string("text/sources/") + name);
    const Finished run = run_serval({"inspect", path, "--json"});
    ASSERT_EQ(run.exit_code, 0) << name << run.err;
    EXPECT_EQ(run.err, "") << name;
    const Json json = Json::parse(run.out, name);
    EXPECT_EQ(json.at("kind").as_string(), kind) << name;
    EXPECT_EQ(json.at("tokenizer").as_string(), std::to_string(json.at("vocab_size").as_int()) + " tokens");
    EXPECT_GT(json.at("special_tokens").size(), 0u) << name;
    EXPECT_HAS(json.at("notes").as_array().at(0).as_string(), "the tokenizer is read from");
  }
  const Finished text = run_serval({"inspect", fixture("text/sources/gguf_llama/vocabulary.gguf")});
  for (const char* part : {"architecture  llama", "7 keys", "tokenizer     500 tokens",
                           "special       3, bos \"<s>\" (1), eos \"</s>\" (2)"})
    EXPECT_HAS(text.out, part);
}

TEST(InspectTokenizer, HostileFilesEndInOneLine) {
  const std::string root = scratch_directory();
  const std::string whole = read_file(fixture("text/sources/gguf_llama/vocabulary.gguf"));
  for (const size_t size : {4u, 24u, 200u, 5000u})
    EXPECT_FAILS(run_serval({"inspect", write_file(root, "cut.gguf", whole.substr(0, size))}), 1, "cut.gguf");
  EXPECT_FAILS(run_serval({"inspect", write_file(root, "tokenizer.model", "\x0A\x7F")}), 1,
               "tokenizer.model");
  EXPECT_FAILS(run_serval({"inspect", write_file(root, "tekken.json", "[")}), 1, "tekken.json");
}

}  // namespace
}  // namespace serval::testing
