// Every kind of tokenizer is written as tokenizer.json and read back. That `tokenizers` and transformers make
// the same of the files is checked by tests/reference/check_tokenizer_writer.py.
#include "text/tokenizer_files.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "support/test_data.h"
#include "text/tokenizer.h"
#include "text/tokenizer_changes.h"

namespace serval {
namespace {

using testing::fixture;
using testing::scratch_directory;

const std::vector<NewToken> kNew = {{"<new>"}, {"<|turn|>", true}};

std::vector<std::string> texts_of(const std::string& source) {
  std::vector<std::string> texts;
  const Json file = Json::parse(read_file(source + "/cases.json"), "cases.json");
  for (const Json& one : file.at("cases").as_array()) texts.push_back(one.at("text").as_string());
  return texts;
}

void expect_equal(const Tokenizer& a, const Tokenizer& b, const std::vector<std::string>& texts) {
  EXPECT_EQ(a.vocab_size(), b.vocab_size());
  for (const std::string& text : texts) {
    for (const bool special : {true, false})
      EXPECT_EQ(a.encode(text, {.add_special_tokens = special}).ids,
                b.encode(text, {.add_special_tokens = special}).ids)
          << text;
    const std::vector<int32_t> ids = a.encode(text).ids;
    EXPECT_EQ(a.decode(ids), b.decode(ids)) << text;
    EXPECT_EQ(a.decode(ids, /*skip_special_tokens=*/true), b.decode(ids, true)) << text;
  }
}

class WrittenTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(WrittenTokenizer, IsReadBackAsItWas) {
  const std::string source = fixture("text/sources/" + std::string(GetParam()));
  std::vector<std::string> texts = texts_of(source);
  const auto [tokenizer, ids] = Tokenizer::from_directory(source).with_added_tokens(kNew);
  texts.push_back("one <new> two<|turn|>three <new>");
  const std::string directory = scratch_directory();
  write_tokenizer(tokenizer, directory);
  const Tokenizer again = Tokenizer::from_directory(directory);
  EXPECT_TRUE(again.notes().empty());
  EXPECT_EQ(again.token_to_id("<new>"), ids[0]);
  EXPECT_EQ(again.token_to_id("<|turn|>"), ids[1]);
  EXPECT_FALSE(again.is_special(ids[0]));
  EXPECT_TRUE(again.is_special(ids[1]));
  EXPECT_EQ(again.bos_id(), tokenizer.bos_id());
  EXPECT_EQ(again.eos_id(), tokenizer.eos_id());
  EXPECT_EQ(again.pad_id(), tokenizer.pad_id());
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    EXPECT_EQ(again.id_to_token(id), tokenizer.id_to_token(id)) << id;
  expect_equal(again, tokenizer, texts);
  // What is written of what was written is the same again.
  const std::string second = directory + "/second";
  std::filesystem::create_directory(second);
  write_tokenizer(again, second);
  for (const char* name : {"/tokenizer.json", "/tokenizer_config.json"})
    if (file_exists(directory + name)) {
      EXPECT_EQ(read_file(second + name), read_file(directory + name));
    }
}

// Those whose rules a tokenizer.json says exactly; "Precompiled" is applied to graphemes.
INSTANTIATE_TEST_SUITE_P(Kinds, WrittenTokenizer,
                         ::testing::Values("json_unigram", "json_unigram_whole", "spm_bpe", "hf_llama",
                                           "hf_llama_legacy", "hf_gemma", "files_gpt2", "files_qwen2",
                                           "files_roberta", "files_bert", "files_bert_cased", "gguf_bert",
                                           "tiktoken", "tekken", "gguf_llama", "gguf_gpt2"),
                         [](const auto& each) { return std::string(each.param); });

// Where SentencePiece's rules are applied to a grapheme of several characters, or a text spells the name of a
// byte, ids may differ.
TEST(TokenizerFiles, SentencePieceIsWrittenAsFarAsATokenizerJsonGoes) {
  for (const char* name : {"spm_unigram", "spm_unigram_plain", "spm_bpe_suffix"}) {
    const std::string source = fixture("text/sources/" + std::string(name));
    std::vector<std::string> texts = texts_of(source);
    std::erase_if(texts, [](const std::string& text) {
      return text.find("<0x") != std::string::npos ||
             std::any_of(text.begin(), text.end(), [](char c) { return c < 0 || c == '\r'; });
    });
    ASSERT_GT(texts.size(), 15u);
    const std::string directory = scratch_directory();
    const Tokenizer tokenizer = Tokenizer::from_directory(source);
    EXPECT_FALSE(needs_writing(tokenizer));
    write_tokenizer(tokenizer, directory);
    expect_equal(Tokenizer::from_directory(directory), tokenizer, texts);
  }
}

class WrittenJson : public ::testing::TestWithParam<const char*> {};

// A tokenizer.json that is told anew from its parts (a change of its list would not do).
TEST_P(WrittenJson, SaysTheSameInOtherWords) {
  const Json file = Json::parse(read_file(fixture("text/" + std::string(GetParam()) + ".json")), "fixture");
  const std::string text = file.at("tokenizer").dump();
  const Tokenizer tokenizer = Tokenizer::from_json(text, Json::object(), "tokenizer.json");
  const Tokenizer again = Tokenizer::from_json(tokenizer_json(tokenizer), Json::object(), "written");
  std::vector<std::string> texts;
  for (const Json& one : file.at("cases").as_array()) texts.push_back(one.at("text").as_string());
  ASSERT_FALSE(texts.empty());
  expect_equal(again, tokenizer, texts);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, WrittenJson,
                         ::testing::Values("tokenizer_bert", "tokenizer_gpt2", "tokenizer_llama",
                                           "tokenizer_llama_added", "tokenizer_metaspace_always",
                                           "tokenizer_metaspace_first", "tokenizer_roberta",
                                           "tokenizer_split_nfc", "tokenizer_suffix", "tokenizer_words"),
                         [](const auto& each) { return std::string(each.param); });

TEST(TokenizerFiles, OnlyTheListOfATokenizerJsonChanges) {
  const std::string directory = scratch_directory(), out = directory + "/out";
  std::filesystem::create_directory(out);
  const std::string before = R"({
  "version": "1.0", "odd": [1.50, {"added_tokens": "no \" }"}],
  "added_tokens": [
    {
      "id": 0,
      "content": "<s>",
      "single_word": false,
      "lstrip": false,
      "rstrip": false,
      "normalized": false,
      "special": true
    }
  ],
  "model": {"type": "WordLevel", "vocab": {"<s>": 0, "a": 1, "b": 2}, "unk_token": "<s>"}
}
)";
  const auto write = [&](const char* name, std::string_view text) {
    std::ofstream(directory + "/" + name) << text;
  };
  const std::string config = "{\"bos_token\":   \"<s>\", \"eos_token\": \"b\"}";
  write("tokenizer.json", before);
  write("tokenizer_config.json", config);
  write("special_tokens_map.json", R"({"bos_token": {"content": "<s>"}, "eos_token": "b"})");
  write("added_tokens.json", R"({"<s>": 0})");
  const Tokenizer plain = Tokenizer::from_directory(directory);
  EXPECT_FALSE(needs_writing(plain));
  write_tokenizer(plain, out);
  EXPECT_EQ(read_file(out + "/tokenizer.json"), before);
  EXPECT_EQ(read_file(out + "/tokenizer_config.json"), config);

  const auto [more, ids] = plain.with_added_tokens(kNew);
  EXPECT_EQ(ids, (std::vector<int32_t>{3, 4}));
  const Tokenizer named = more.with_named_tokens(std::vector<NamedToken>{{"eos_token", "<|turn|>"}});
  EXPECT_EQ(named.eos_id(), 4);
  EXPECT_TRUE(was_changed(named));
  write_tokenizer(named, out);
  const std::string after = read_file(out + "/tokenizer.json");
  const size_t at = before.find("\n  ],");
  EXPECT_EQ(after.substr(0, at), before.substr(0, at));
  EXPECT_EQ(after.substr(after.size() - (before.size() - at)), before.substr(at));
  EXPECT_NE(after.find("    {\n      \"id\": 4,\n      \"content\": \"<|turn|>\","), std::string::npos);
  const Tokenizer again = Tokenizer::from_directory(out);
  EXPECT_EQ(again.eos_id(), 4);
  EXPECT_EQ(again.encode("<|turn|>").ids, std::vector<int32_t>{4});
  EXPECT_EQ(Json::parse(read_file(out + "/special_tokens_map.json"), "map"),
            Json::parse(R"({"bos_token": "<s>", "eos_token": "<|turn|>"})", "map"));
  EXPECT_EQ(Json::parse(read_file(out + "/added_tokens.json"), "added"),
            Json::parse(R"({"<s>": 0, "<new>": 3, "<|turn|>": 4})", "added"));
}

// `tokenizers` gives a new token the id behind the count of the vocabulary, whatever the list says.
TEST(TokenizerFiles, IdsThatDoNotFollowStandInTheVocabulary) {
  const std::string directory = scratch_directory(), out = directory + "/out";
  std::filesystem::create_directory(out);
  std::ofstream(directory + "/tokenizer.json")
      << R"({"added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 7}, "unk_token": "a"}})";
  const auto [more, ids] = Tokenizer::from_directory(directory).with_added_tokens(kNew);
  EXPECT_EQ(ids, (std::vector<int32_t>{8, 9}));
  write_tokenizer(more, out);
  const Json written = Json::parse(read_file(out + "/tokenizer.json"), "written");
  EXPECT_EQ(written.at("model").at("vocab"),
            Json::parse(R"({"a": 0, "b": 7, "<new>": 8, "<|turn|>": 9})", "vocab"));
  EXPECT_EQ(Tokenizer::from_directory(out).encode("<new>").ids, std::vector<int32_t>{8});
}

TEST(TokenizerChanges, SayWhatIsNewAndWhatSpelledIt) {
  const auto tokenizer = [] {
    return Tokenizer::from_json(
        R"({"added_tokens": [{"id": 2, "content": "<s>", "special": true}],
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})",
        Json::object(), "t");
  };
  const TokenizerChanges changes{
      .add = {{"ab", false}, {"<s>", true}, {"ba", true}, {"ab", true}, {"a", false}},
      .name = {{"pad_token", "ba"}}};
  const ChangedTokenizer changed = change_tokenizer(tokenizer(), changes);
  EXPECT_EQ(changed.old_size, 3);
  EXPECT_EQ(changed.new_ids, (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(changed.spellings, (std::vector<std::vector<int32_t>>{{0, 1}, {1, 0}}));
  EXPECT_EQ(changed.tokenizer.pad_id(), 4);
  EXPECT_FALSE(changed.tokenizer.is_special(3));
  EXPECT_EQ(changed.tokenizer.encode("abba").ids, (std::vector<int32_t>{3, 4}));

  EXPECT_TRUE(TokenizerChanges().empty());
  EXPECT_EQ(TokenizerChanges().text(), "");
  EXPECT_NE(changes.text(), (TokenizerChanges{.add = changes.add, .name = {{"eos_token", "ba"}}}.text()));
  EXPECT_FALSE(was_changed(change_tokenizer(tokenizer(), {}).tokenizer));
}

TEST(TokenizerFiles, AVocabularyWithOneIdForTwoTokensIsRefused) {
  const Tokenizer tokenizer = Tokenizer::from_json(
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 2}, "merges": ["a b"]}})",
      Json::object(), "t");
  try {
    (void)tokenizer_json(tokenizer);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "t: several tokens share an id (2), so the vocabulary cannot be written again");
  }
}

TEST(TokenizerFiles, NamedTokensMustExistAndMoveTheEndsOfAText) {
  const Json config = Json::parse(R"({"eos_token": "a", "add_eos_token": true})", "config");
  const Tokenizer tokenizer = Tokenizer::from_json(
      R"({"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}})", config, "t");
  EXPECT_EQ(tokenizer.encode("b").ids, (std::vector<int32_t>{1, 0}));
  const std::vector<NamedToken> b = {{"eos_token", "b"}}, none = {{"pad_token", "c"}};
  EXPECT_EQ(tokenizer.with_named_tokens(b).encode("b").ids, (std::vector<int32_t>{1, 1}));
  try {
    tokenizer.with_named_tokens(none);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("\"c\" cannot be the pad_token"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace serval
