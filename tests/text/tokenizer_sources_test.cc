// Tokenizers in files other than tokenizer.json, and the parts that only they need. The expected ids were
// written by tests/reference/make_tokenizer_source_fixtures.py.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/base64.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "support/test_data.h"
#include "text/tokenizer.h"
#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/parts.h"
#include "text/tokenizer/protobuf.h"
#include "text/tokenizer/sentencepiece_model.h"
#include "text/tokenizer/unigram.h"

namespace serval {
namespace {

using testing::fixture;
using testing::scratch_directory;
using testing::test_data;

std::string source(const std::string& name) {
  return fixture("text/sources/" + name);
}

void write(const std::string& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

// The error that reading the file ends in; "" where it is read.
std::string error_of(const std::string& path, const TokenizerOptions& options = {}) {
  try {
    Tokenizer::from_path(path, options);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

class TokenizerSource : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerSource, GivesTheIdsOfItsLibrary) {
  const std::string directory = source(GetParam());
  const Tokenizer tokenizer = Tokenizer::from_directory(directory);
  const Json file = Json::parse(read_file(directory + "/cases.json"), "cases.json");
  const bool special = file.at("add_special_tokens").as_bool();
  ASSERT_GT(file.at("cases").size(), 30u);
  for (const Json& one : file.at("cases").as_array()) {
    const std::string& text = one.at("text").as_string();
    const Encoding encoding = tokenizer.encode(text, {.add_special_tokens = special});
    std::vector<int32_t> expected;
    for (const Json& id : one.at("ids").as_array()) expected.push_back(static_cast<int32_t>(id.as_int()));
    EXPECT_EQ(encoding.ids, expected) << text;
    ASSERT_EQ(encoding.spans.size(), encoding.ids.size());
    int64_t last = 0;
    for (const Encoding::Span& span : encoding.spans) {
      EXPECT_LE(0, span.begin);
      EXPECT_LE(span.begin, span.end);
      EXPECT_LE(span.end, static_cast<int64_t>(text.size())) << text;
      if (span.begin != span.end) {
        EXPECT_LE(last, span.end) << text;
      }
      last = span.end;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, TokenizerSource,
                         ::testing::Values("json_unigram", "json_unigram_whole", "spm_unigram",
                                           "spm_unigram_plain", "spm_bpe", "spm_bpe_suffix", "hf_llama",
                                           "hf_llama_legacy", "hf_gemma", "files_gpt2", "files_qwen2",
                                           "files_roberta", "files_bert", "files_bert_cased", "gguf_bert",
                                           "tiktoken", "tekken", "gguf_llama", "gguf_gpt2"),
                         [](const auto& each) { return std::string(each.param); });

TEST(TokenizerSources, TextComesBack) {
  for (const char* name :
       {"spm_bpe", "hf_llama", "files_qwen2", "tiktoken", "tekken", "gguf_llama", "gguf_gpt2"}) {
    const Tokenizer tokenizer = Tokenizer::from_directory(source(name));
    const std::string text = "Hello  world, na\xC3\xAFve \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80 12345";
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text).ids, /*skip_special_tokens=*/true), text) << name;
  }
}

TEST(TokenizerSources, NotesSayWhichFileWasRead) {
  const Tokenizer tokenizer = Tokenizer::from_directory(source("spm_bpe"));
  ASSERT_FALSE(tokenizer.notes().empty());
  EXPECT_NE(tokenizer.notes()[0].find("spm_bpe/tokenizer.model"), std::string::npos);
  EXPECT_EQ(Tokenizer::from_directory(source("gguf_llama")).config().at("chat_template").as_string(),
            "{{ messages }}");
}

TEST(TokenizerSources, TheSurestFileOfADirectoryIsTaken) {
  const std::string directory = scratch_directory();
  namespace fs = std::filesystem;
  EXPECT_NE(error_of(directory).find("looked for tokenizer.json, tokenizer.model"), std::string::npos);
  EXPECT_NE(error_of(directory + "/absent").find("no such file"), std::string::npos);
  fs::copy(source("tiktoken/o200k_base.tiktoken"), directory);
  const auto read_from = [&] { return Tokenizer::from_directory(directory).notes()[0]; };
  EXPECT_NE(read_from().find("o200k_base.tiktoken"), std::string::npos);
  fs::copy(source("files_gpt2/vocab.json"), directory);
  EXPECT_NE(read_from().find("o200k_base.tiktoken"), std::string::npos);  // no merges.txt beside it
  fs::copy(source("files_gpt2/merges.txt"), directory);
  EXPECT_NE(read_from().find("vocab.json"), std::string::npos);
  fs::copy(source("tekken/tekken.json"), directory);
  EXPECT_NE(read_from().find("tekken.json"), std::string::npos);
  fs::copy(source("spm_bpe/tokenizer.model"), directory);
  EXPECT_NE(read_from().find("tokenizer.model"), std::string::npos);
  fs::copy(source("json_unigram/tokenizer.json"), directory);
  EXPECT_TRUE(Tokenizer::from_directory(directory).notes().empty());
}

TEST(TokenizerSources, ARankFileOfAnUnknownEncodingNeedsAPattern) {
  const std::string path = scratch_directory() + "/mine.tiktoken";
  std::filesystem::copy(source("tiktoken/o200k_base.tiktoken"), path);
  EXPECT_NE(error_of(path).find("--tokenizer-pattern"), std::string::npos);
  const auto ids = [&](const char* pattern) {
    return Tokenizer::from_path(path, {.tiktoken_pattern = pattern}).encode("1234567 the the").ids;
  };
  EXPECT_EQ(ids("o200k_base"), Tokenizer::from_directory(source("tiktoken")).encode("1234567 the the").ids);
  EXPECT_NE(ids("."), ids("o200k_base"));
  EXPECT_NE(error_of(path, {.tiktoken_pattern = "(["}), "");
}

TEST(TokenizerSources, WrongFilesEndInOneError) {
  const std::string directory = scratch_directory();
  const auto expect = [&](const std::string& name, std::string_view content, const std::string& part) {
    write(directory + "/" + name, content);
    const std::string error = error_of(directory + "/" + name);
    EXPECT_NE(error.find(part), std::string::npos) << name << ": " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    std::filesystem::remove(directory + "/" + name);
  };
  expect("tokenizer.model", "", "no pieces");
  expect("tokenizer.model", "\x0A\x7F", "127 bytes where 0 are left");
  expect("tokenizer.model",
         "\x0A\x03\x0A\x01"
         "a",
         "no piece is the unknown one");
  expect("tokenizer.model",
         std::string_view("\x0A\x05\x0A\x01"
                          "a\x18\x02\x0A\x05\x0A\x01"
                          "a\x18\x01",
                          14),
         "there twice");
  expect("a.tiktoken", "IQ== 0\nIg== x\n", "line 2");
  expect("a.tiktoken", "IQ== 0\nIQ== 1\n", "there twice");
  expect("cl100k_base.tiktoken", "IQ== 0\n", "not every single byte");
  expect("tekken.json", "{}", "no tekken file");
  expect("tekken.json", R"({"vocab": [], "config": {"pattern": "."}})", "no token of the vocabulary");
  expect("tekken.json", R"({"vocab": [{"token_bytes": "?"}], "config": {"pattern": "."}})", "vocab[0]");
  expect("vocab.json", "{}", "no merges.txt");
  expect("a.gguf", "GGUF", "the version");
  expect("notes.pdf", "x", "not the name of a tokenizer file");
}

TEST(TokenizerSources, TruncatedModelsEndInErrors) {
  const std::string directory = scratch_directory();
  for (const char* name :
       {"spm_unigram/tokenizer.model", "gguf_llama/vocabulary.gguf", "gguf_gpt2/vocabulary.gguf"}) {
    const std::string bytes = read_file(source(name));
    const std::string path = directory + "/" + base_name(name);
    for (size_t size = 0; size < bytes.size(); size += 1 + bytes.size() / 50) {
      write(path, std::string_view(bytes).substr(0, size));
      const std::string error = error_of(path);
      EXPECT_EQ(error.find('\n'), std::string::npos);
      // A SentencePiece file cut between two fields is whole.
      if (ends_with(name, ".gguf")) {
        EXPECT_FALSE(error.empty()) << name << " " << size;
      }
    }
  }
}

// Vocabularies of llama.cpp with the ids it expects.
class LlamaCppVocabulary : public ::testing::TestWithParam<const char*> {};

TEST_P(LlamaCppVocabulary, GivesItsIds) {
  const std::string name = std::string("tokenizers/ggml-vocab/ggml-vocab-") + GetParam() + ".gguf";
  SERVAL_NEEDS_DATA(name);
  const Tokenizer tokenizer = Tokenizer::from_path(test_data(name));
  const std::string texts = read_file(test_data(name + ".inp"));
  const std::string separator = "\n__ggml_vocab_test__\n";
  size_t count = 0, at = 0;
  for (const std::string& row : split(read_file(test_data(name + ".out")), '\n')) {
    if (at > texts.size()) break;
    const size_t end = std::min(texts.find(separator, at), texts.size());
    const std::string text = texts.substr(at, end - at);
    at = end + separator.size();
    std::vector<int32_t> expected;
    for (const std::string& id : split(std::string(trim(row)), ' '))
      if (!id.empty()) expected.push_back(std::stoi(id));
    EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = false}).ids, expected) << text;
    ++count;
  }
  EXPECT_GE(count, 46u);
}

INSTANTIATE_TEST_SUITE_P(Files, LlamaCppVocabulary,
                         ::testing::Values("deepseek-llm", "gpt-2", "llama-spm", "phi-3"),
                         [](const auto& each) { return replace_all(each.param, "-", "_"); });

TEST(LlamaCppPreTokenizers, EveryPatternCompiles) {
  size_t names = 0;
  for (const GgufPreTokenizer& one : gguf_pre_tokenizers()) {
    names += one.names.size();
    for (const std::string_view pattern : one.patterns) {
      Json json = Json::object();
      json.set("type", "Split");
      json.set("pattern", Json(Json::Object{{"Regex", pattern}}));
      json.set("behavior", "Isolated");
      json.set("invert", false);
      EXPECT_NE(make_pre_tokenizer(json, std::string(one.names[0])), nullptr);
    }
  }
  EXPECT_GT(names, 70u);
  EXPECT_EQ(find_gguf_pre_tokenizer("no-such-name"), nullptr);
}

TEST(LlamaCppPreTokenizers, EveryRegisteredNameIsKnown) {
  const std::string table = "tokenizers/ggml-vocab/pre_tokenizer_hashes.tsv";
  SERVAL_NEEDS_DATA(table);
  // These are names of WordPiece vocabularies, whose pre-tokenizer is always BERT's, or need no pattern.
  const std::vector<std::string> others = {"bert-bge", "jina-v2-en", "cohere2_moe", "openpangu"};
  for (const std::string& line : split(read_file(test_data(table)), '\n')) {
    const size_t tab = line.find('\t');
    if (tab == std::string::npos) continue;
    const std::string name(trim(line.substr(tab + 1)));
    if (std::find(others.begin(), others.end(), name) != others.end()) continue;
    EXPECT_NE(find_gguf_pre_tokenizer(name), nullptr) << name;
  }
}

TEST(ByteTrie, FindsEveryPrefix) {
  const std::vector<ByteTrie::Key> keys = {{"ab", 1}, {"a", 2}, {"abcd", 3}, {"b", 4},
                                           {"ab", 5}, {"", 6},  {"\xFF", 7}};
  const ByteTrie trie(keys);
  std::vector<std::pair<size_t, int32_t>> found;
  trie.for_each_prefix("abcde", [&](size_t size, int32_t value) { found.emplace_back(size, value); });
  EXPECT_EQ(found, (std::vector<std::pair<size_t, int32_t>>{{1, 2}, {2, 5}, {4, 3}}));
  size_t size = 0;
  EXPECT_EQ(trie.longest_prefix("abc", size), 5);
  EXPECT_EQ(size, 2u);
  EXPECT_EQ(trie.longest_prefix("\xFF\xFF", size), 7);
  EXPECT_EQ(trie.longest_prefix("", size), -1);
  EXPECT_EQ(ByteTrie().longest_prefix("a", size), -1);
  EXPECT_TRUE(ByteTrie({{"", 1}}).empty());
}

TEST(Unigram, TakesTheBestSum) {
  const auto tokenize = [](UnigramOptions options, std::string_view text) {
    TokenTable table;
    const char* tokens[] = {"<unk>", "a", "b", "ab", "abc", "<0xC3>", "<0xA9>", "xy"};
    for (int32_t id = 0; id < 8; ++id) table.add(tokens[id], id);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const UnigramModel model(std::move(table), {0, -1, -1.5, -2, -9, nan, nan, -40}, options, "test");
    std::vector<ModelToken> out;
    model.tokenize(text, false, out);
    std::vector<int32_t> ids;
    for (const ModelToken& token : out) ids.push_back(token.id);
    return ids;
  };
  using Ids = std::vector<int32_t>;
  const UnigramOptions options{.unk_id = 0, .unk_score = -19};
  EXPECT_EQ(tokenize(options, "abab"), (Ids{3, 3}));
  EXPECT_EQ(tokenize(options, "abc"), (Ids{4}));
  EXPECT_EQ(tokenize(options, "azzb"), (Ids{1, 0, 2}));
  // The run "xy" of two unknown characters costs less than the token, and is looked up afterwards.
  EXPECT_EQ(tokenize(options, "xy"), (Ids{7}));
  EXPECT_EQ(tokenize({.unk_id = 0, .unk_score = -19, .looks_up_unknown_runs = false}, "xy"), (Ids{0}));
  EXPECT_EQ(tokenize({.unk_id = 0, .unk_score = -19, .byte_fallback = true}, "\xC3\xA9"), (Ids{5, 6}));
  EXPECT_EQ(tokenize({.unk_id = 0, .unk_score = -19, .byte_fallback = true}, "z"), (Ids{0}));
  EXPECT_THROW(tokenize({}, "z"), UserError);
}

TEST(Unigram, IsLinearInALongText) {
  const Tokenizer tokenizer = Tokenizer::from_directory(source("spm_unigram"));
  const std::string text(size_t{4} << 20, 'e');
  EXPECT_GT(tokenizer.encode(text).ids.size(), text.size() / 64);
}

TEST(Charsmap, HostileBytesAreRefusedOrHarmless) {
  EXPECT_TRUE(Charsmap::from_bytes("", "test").empty());
  for (const std::string_view bytes :
       {std::string_view("\x01", 1), std::string_view("\0\0\0\0", 4),
        std::string_view("\xFF\xFF\xFF\xFF....", 8), std::string_view("\3\0\0\0abcd", 8),
        std::string_view("\4\0\0\0abcd\xFF", 9)})
    EXPECT_THROW(Charsmap::from_bytes(bytes, "test"), UserError);
  // Units that point anywhere.
  std::string bytes("\x40\0\0\0", 4);
  for (int i = 0; i < 64; ++i) bytes += static_cast<char>(i * 37);
  bytes += "replacement";
  const Charsmap map = Charsmap::from_bytes(bytes, "test");
  size_t size = 0;
  for (int c = 0; c < 256; ++c) (void)map.longest(std::string(8, static_cast<char>(c)), size);
}

TEST(Protobuf, ReadsFieldsAndRefusesNonsense) {
  const std::string where = "test";
  ProtobufReader reader(std::string_view("\x08\x96\x01\x12\x02hi\x1D\0\0\x80\x3F", 12), where);
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.integer(), 150);
  EXPECT_THROW((void)reader.bytes(), UserError);
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.bytes(), "hi");
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.number(), 1.0f);
  EXPECT_FALSE(reader.next());
  for (const std::string_view bytes :
       {std::string_view("\x08"), std::string_view("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
        std::string_view("\x0B"), std::string_view("\x07\x01"),
        std::string_view("\x12\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"), std::string_view("\x1D\x01")}) {
    ProtobufReader wrong(bytes, where);
    EXPECT_THROW(while (wrong.next()){}, UserError);
  }
}

TEST(Base64, DecodesStrictly) {
  std::string out;
  EXPECT_TRUE(decode_base64("aGVsbG8=", out));
  EXPECT_EQ(encode_base64("hello"), "aGVsbG8=");
  EXPECT_EQ(encode_base64(std::string_view("\0\xFF\x80\x01", 4)), "AP+AAQ==");
  EXPECT_EQ(encode_base64("abc") + encode_base64(""), "YWJj");
  EXPECT_EQ(out, "hello");
  EXPECT_TRUE(decode_base64("aGVsbG8", out));
  EXPECT_EQ(out, "hello");
  EXPECT_TRUE(decode_base64("", out));
  EXPECT_EQ(out, "");
  for (const char* wrong : {"a", "a=", "====", "aGk*", "aG k", "=aGk"})
    EXPECT_FALSE(decode_base64(wrong, out)) << wrong;
}

}  // namespace
}  // namespace serval
