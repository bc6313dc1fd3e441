#include "text/tokenizer.h"

#include <chrono>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "support/test_data.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/regex.h"
#include "text/tokenizer_check.h"

namespace serval {
namespace {

using testing::fixture;
using testing::test_data;

Tokenizer load(const Json& tokenizer, const Json& config = Json::object()) {
  return Tokenizer::from_json(tokenizer.dump(), config, "tokenizer.json");
}

Json read_fixture(const std::string& name) {
  const std::string path = fixture("text/" + name + ".json");
  return Json::parse(read_file(path), path);
}

std::vector<int32_t> ids_of(const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

std::vector<Encoding::Span> spans_of(const Json& list) {
  std::vector<Encoding::Span> spans;
  for (const Json& span : list.as_array())
    spans.push_back({span.as_array()[0].as_int(), span.as_array()[1].as_int()});
  return spans;
}

std::string stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  DecodeStream decoder(tokenizer);
  std::string text;
  for (const int32_t id : ids) {
    const std::string part = decoder.push(id);
    EXPECT_EQ(valid_utf8_prefix(part).ill_formed, 0u);
    text += part;
  }
  return text + decoder.finish();
}

class TokenizerFixture : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerFixture, EncodesAndDecodesAsTheReference) {
  const Json data = read_fixture(GetParam());
  const Tokenizer tokenizer = load(data.at("tokenizer"));
  for (const Json& expected : data.at("cases").as_array()) {
    const std::string& text = expected.at("text").as_string();
    SCOPED_TRACE(json_quote(text));
    const Encoding encoding =
        tokenizer.encode(text, {.add_special_tokens = expected.at("add_special_tokens").as_bool()});
    EXPECT_EQ(encoding.ids, ids_of(expected.at("ids")));
    EXPECT_EQ(encoding.spans, spans_of(expected.at("spans")));
    EXPECT_EQ(tokenizer.decode(encoding.ids), expected.at("decoded").as_string());
    const std::string without_special = tokenizer.decode(encoding.ids, /*skip_special_tokens=*/true);
    EXPECT_EQ(without_special, expected.at("decoded_without_special").as_string());
    EXPECT_EQ(stream(tokenizer, encoding.ids), without_special);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerFixture,
                         ::testing::Values("tokenizer_gpt2", "tokenizer_roberta", "tokenizer_split_nfc",
                                           "tokenizer_llama", "tokenizer_llama_added",
                                           "tokenizer_metaspace_first", "tokenizer_metaspace_always",
                                           "tokenizer_bert", "tokenizer_words", "tokenizer_suffix"));

TEST(Tokenizer, RandomFilesAreReadAsTheReferenceReadsThem) {
  const Json data = read_fixture("tokenizer_random");
  for (const Json& file : data.at("files").as_array()) {
    SCOPED_TRACE(file.at("tokenizer").dump());
    const Tokenizer tokenizer = load(file.at("tokenizer"));
    for (const Json& expected : file.at("cases").as_array()) {
      const std::string& text = expected.at("text").as_string();
      SCOPED_TRACE(json_quote(text));
      const Encoding encoding = tokenizer.encode(text);
      EXPECT_EQ(encoding.ids, ids_of(expected.at("ids")));
      EXPECT_EQ(encoding.spans, spans_of(expected.at("spans")));
      EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = false}).ids, ids_of(expected.at("plain")));
      EXPECT_EQ(tokenizer.decode(encoding.ids), expected.at("decoded").as_string());
      if (expected.at("skipped").is_string()) {
        EXPECT_EQ(tokenizer.decode(encoding.ids, true), expected.at("skipped").as_string());
      }
    }
  }
}

class PartsFixture : public ::testing::TestWithParam<const char*> {};

TEST_P(PartsFixture, PreTokenizersCutAsTheReference) {
  const Json data = read_fixture(GetParam());
  Json part;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  for (const Json& expected : data.at("pre_tokenizers").as_array()) {
    const std::string& text = expected.at("text").as_string();
    SCOPED_TRACE(expected.at("part").dump() + " " + json_quote(text));
    // Neighbouring cases mostly have the same part.
    if (expected.at("part") != part || pre_tokenizer == nullptr) {
      part = expected.at("part");
      pre_tokenizer = make_pre_tokenizer(part, "part");
    }
    Pieces pieces(text);
    pre_tokenizer->apply(pieces);
    std::vector<Encoding::Span> spans;
    for (const Piece& piece : pieces.list()) {
      const InputSpan span = pieces.span(piece, 0, piece.text.size());
      spans.push_back({span.begin, span.end});
    }
    EXPECT_EQ(spans, spans_of(expected.at("pieces")));
  }
}

TEST_P(PartsFixture, NormalizersChangeTextAsTheReference) {
  const Json data = read_fixture(GetParam());
  for (const Json& expected : data.at("normalizers").as_array()) {
    const std::string& text = expected.at("text").as_string();
    if (text.empty()) continue;
    SCOPED_TRACE(expected.at("part").dump() + " " + json_quote(text));
    Pieces pieces(text);
    const Piece result = make_normalizer(expected.at("part"), "part")->apply(pieces, pieces.list().front());
    EXPECT_EQ(result.text, expected.at("normalized").as_string());
  }
}

TEST_P(PartsFixture, DecodersJoinAsTheReference) {
  const Json data = read_fixture(GetParam());
  for (const Json& expected : data.at("decoders").as_array()) {
    SCOPED_TRACE(expected.dump());
    std::vector<std::string> tokens;
    for (const Json& token : expected.at("tokens").as_array()) tokens.push_back(token.as_string());
    make_decoder(expected.at("part"), "part")->apply(tokens);
    EXPECT_EQ(join(tokens, ""), expected.at("text").as_string());
  }
}

INSTANTIATE_TEST_SUITE_P(All, PartsFixture, ::testing::Values("tokenizer_parts", "tokenizer_more_parts"));

TEST(Regex, RewritesOniguruma) {
  EXPECT_EQ(translate_oniguruma(R"(\h{1,3}+x)", ""),
            R"((?:[\x{30}-\x{39}\x{41}-\x{46}\x{61}-\x{66}]{1,3})+x)");
  EXPECT_EQ(translate_oniguruma(R"((ab){2}+)", ""), R"((?:(ab){2})+)");
  EXPECT_TRUE(starts_with(translate_oniguruma(R"(\p{Lu})", ""), R"([\p{Lu}\x{1C89})"));
  EXPECT_TRUE(starts_with(translate_oniguruma(R"([\p{^Lu}a])", ""), R"([\x{0}-\x{40}\x{5B}-)"));
  EXPECT_EQ(translate_oniguruma(R"(\u{1F600}\u00e9)", ""), R"(\x{1F600}\x{00e9})");
  EXPECT_EQ(translate_oniguruma(R"([^(a|[.,])])", ""), R"([^(a|.,)])");
  EXPECT_EQ(translate_oniguruma("[ac&&[^b]]", ""), "(?>(?=[^b])(?>[ac]))");
  EXPECT_EQ(translate_oniguruma("[^a[^b]c]", ""), "(?>(?!(?>[ac]|[^b]))(?s:.))");
  EXPECT_EQ(translate_oniguruma("(a(?i)b|c)d(?m).", ""), "(a(?i:b|c))d(?s:.)");
  EXPECT_THROW(translate_oniguruma("[a&&b", "here"), UserError);
  EXPECT_THROW(Pattern::regex("(", "here"), UserError);
}

// Texts of characters of every class, in every order that a few million draws give.
TEST(Regex, KnownWordPatternsCutAsTheirExpressions) {
  const std::vector<std::string> alphabet = {"a",
                                             "b",
                                             "s",
                                             "t",
                                             "re",
                                             "ll",
                                             "S",
                                             "D",
                                             "A",
                                             "Z",
                                             "\xC5\xBF",
                                             "'",
                                             "'s",
                                             "'LL",
                                             " ",
                                             " ",
                                             "  ",
                                             "\n",
                                             "\r",
                                             "\t",
                                             "1",
                                             "2",
                                             "\xD9\xA3",
                                             "\xC2\xBD",
                                             ".",
                                             "/",
                                             "!",
                                             "-",
                                             "_",
                                             "\xC3\xA9",
                                             "\xC3\x89",
                                             "\xC7\x85",
                                             "\xCA\xB0",
                                             "\xE4\xBD\xA0",
                                             "\xCC\x81",
                                             "\xE0\xA4\xBE",
                                             "\xC2\xA0",
                                             "\xE2\x80\xA8",
                                             "\xC2\x85",
                                             "\xE3\x80\x80",
                                             "\xE2\x82\xAC",
                                             "\xF0\x9F\x98\x80",
                                             "\xE2\x80\x8D",
                                             "\x00",
                                             "\xE1\xB2\x89",
                                             "\xF0\xB1\x8D\x90",
                                             "\xCD\xB8",
                                             "\xF0\x91\xBD\x90",
                                             "\xF0\x9E\xA5\x8B"};
  std::mt19937 random(5);
  std::vector<Stretch> expected;
  for (const KnownWordPattern& known : known_word_patterns()) {
    const Pattern pattern = Pattern::regex(known.expression, "here", /*known=*/false);
    for (int round = 0; round < 20'000; ++round) {
      std::string text;
      for (size_t length = 1 + random() % 12; length > 0; --length)
        text += alphabet[random() % alphabet.size()];
      pattern.find(text, expected);
      size_t begin = 0;
      for (const Stretch& word : expected) {
        ASSERT_TRUE(word.is_match && word.begin == begin) << json_quote(text);
        ASSERT_EQ(known.word_end(text, begin), word.end)
            << json_quote(text) << " at " << begin << " " << known.expression;
        begin = word.end;
      }
      ASSERT_EQ(begin, text.size());
    }
  }
}

TEST(Regex, RunawayPatternIsAnError) {
  const Pattern pattern = Pattern::regex("(a+)+[bd]", "here");
  std::vector<Stretch> stretches;
  EXPECT_THROW(pattern.find(std::string(5000, 'a'), stretches), UserError);
}

TEST(Tokenizer, InvalidUtf8BecomesReplacementCharacters) {
  const Tokenizer tokenizer = load(read_fixture("tokenizer_gpt2").at("tokenizer"));
  // Python: b"a\xe4\xbdb\xff".decode(errors="replace") == "a\ufffdb\ufffd".
  const std::string text =
      "a\xE4\xBD"
      "b\xFF";
  const Encoding encoding = tokenizer.encode(text);
  EXPECT_EQ(encoding.ids, tokenizer
                              .encode("a\xEF\xBF\xBD"
                                      "b\xEF\xBF\xBD")
                              .ids);
  EXPECT_EQ(tokenizer.decode(encoding.ids),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(encoding.spans.front(), (Encoding::Span{0, 1}));
  EXPECT_EQ(encoding.spans[1], (Encoding::Span{1, 3}));
  EXPECT_EQ(encoding.spans.back(), (Encoding::Span{4, 5}));
}

TEST(Tokenizer, SpecialTokensOfTheTextCanStayText) {
  const Tokenizer tokenizer = load(read_fixture("tokenizer_split_nfc").at("tokenizer"));
  const int32_t special = tokenizer.token_to_id("<S>").value();
  EXPECT_TRUE(tokenizer.is_special(special));
  const EncodeOptions as_token{.add_special_tokens = false};
  const EncodeOptions as_text{.add_special_tokens = false, .parse_special_tokens = false};
  EXPECT_EQ(tokenizer.encode("<S>", as_token).ids, std::vector<int32_t>{special});
  const std::vector<int32_t> ids = tokenizer.encode("<S>", as_text).ids;
  EXPECT_GT(ids.size(), 1u);
  EXPECT_EQ(tokenizer.decode(ids), "<S>");
}

TEST(Tokenizer, DecodeStreamHoldsBackHalfCharacters) {
  const Tokenizer tokenizer = load(read_fixture("tokenizer_llama").at("tokenizer"));
  const std::vector<int32_t> bytes = {
      tokenizer.token_to_id("<0xF0>").value(), tokenizer.token_to_id("<0x9F>").value(),
      tokenizer.token_to_id("<0x98>").value(), tokenizer.token_to_id("<0x80>").value()};
  DecodeStream decoder(tokenizer);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(decoder.push(bytes[i]), "");
  EXPECT_EQ(decoder.push(bytes[3]), "\xF0\x9F\x98\x80");
  EXPECT_EQ(decoder.push(bytes[0]), "");
  EXPECT_EQ(decoder.finish(), "\xEF\xBF\xBD");
}

TEST(Tokenizer, LongWordsAreMergedInTheOrderOfShortOnes) {
  const Tokenizer tokenizer = load(read_fixture("tokenizer_gpt2").at("tokenizer"));
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += static_cast<char>('a' + (i % 997) * (i % 13) % 7);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text).ids), text);
}

TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const Json data = read_fixture("tokenizer_split_nfc");
  const Tokenizer tokenizer = load(data.at("tokenizer"));
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (const Json& expected : data.at("cases").as_array())
        if (expected.at("add_special_tokens").as_bool() &&
            tokenizer.encode(expected.at("text").as_string()).ids != ids_of(expected.at("ids")))
          ++wrong;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Tokenizer, ALongLineWithoutBlanksEnds) {
  std::string text;
  while (text.size() < 10'000'000) text += static_cast<char>('a' + (text.size() * text.size() / 3) % 17 % 9);
  for (const char* name : {"tokenizer_gpt2", "tokenizer_llama"}) {
    const Tokenizer tokenizer = load(read_fixture(name).at("tokenizer"));
    const auto begin = std::chrono::steady_clock::now();
    const Encoding encoding = tokenizer.encode(text);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(spent.count(), 60) << name;  // a second or two; quadratic cost would take days
    EXPECT_EQ(tokenizer.decode(encoding.ids, /*skip_special_tokens=*/true), text) << name;
  }
}

TEST(Tokenizer, BatchesGiveWhatSingleTextsGive) {
  const Tokenizer tokenizer = load(read_fixture("tokenizer_split_nfc").at("tokenizer"));
  std::vector<std::string> texts;
  for (int i = 0; i < 300; ++i)
    texts.push_back("text " + std::to_string(i) + std::string(static_cast<size_t>(i % 50), 'y'));
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const std::vector<Encoding> batch = tokenizer.encode_batch(views);
  ASSERT_EQ(batch.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const Encoding alone = tokenizer.encode(texts[i]);
    EXPECT_EQ(batch[i].ids, alone.ids);
    EXPECT_EQ(batch[i].spans, alone.spans);
  }
}

TEST(Tokenizer, AddedTokensFollowTheVocabulary) {
  const Tokenizer tokenizer = load(read_fixture("tokenizer_gpt2").at("tokenizer"));
  const auto size = static_cast<int32_t>(tokenizer.vocab_size());
  const std::vector<NewToken> tokens = {{"<new>"}, {"<|im_end|>", true}, {"the"}, {"<new>"}};
  const auto [more, ids] = tokenizer.with_added_tokens(tokens);
  const int32_t the = tokenizer.token_to_id("the").value_or(size + 2);
  EXPECT_EQ(ids, (std::vector<int32_t>{size, size + 1, the, size}));
  EXPECT_EQ(more.vocab_size(), the >= size ? size + 3 : size + 2);
  EXPECT_TRUE(more.is_special(size + 1));
  const std::vector<int32_t> encoded = more.encode("a<new><|im_end|>").ids;
  EXPECT_EQ(std::vector<int32_t>(encoded.end() - 2, encoded.end()), (std::vector<int32_t>{size, size + 1}));
  EXPECT_EQ(more.decode(encoded, /*skip_special_tokens=*/true), "a<new>");
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a<new>").ids), "a<new>");  // the old one is as it was
  EXPECT_NE(tokenizer.encode("<new>").ids, std::vector<int32_t>{size});
  EXPECT_THROW(tokenizer.with_added_tokens(std::vector<NewToken>{{""}}), UserError);
}

TEST(TokenizerCheck, FindsWhatBreaksFineTunes) {
  using Kind = TokenizerFinding::Kind;
  const Json file = read_fixture("tokenizer_llama").at("tokenizer");
  const auto kinds = [&](const char* config, const ModelTokens& model) {
    std::vector<Kind> found;
    for (const TokenizerFinding& finding : check_tokenizer(load(file, Json::parse(config, "config")), model))
      found.push_back(finding.kind);
    return found;
  };
  const char* good = R"({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"})";
  EXPECT_EQ(kinds(good, {}), std::vector<Kind>{});
  EXPECT_EQ(kinds(good, {.embedding_rows = 100000, .eos_ids = {7, 2}}), std::vector<Kind>{});
  EXPECT_EQ(kinds(R"({})", {}), (std::vector<Kind>{Kind::kNoEos, Kind::kNoPad}));
  EXPECT_EQ(kinds(R"({"eos_token": "</s>", "pad_token": "</s>"})", {}), std::vector<Kind>{Kind::kPadIsEos});
  EXPECT_EQ(kinds(R"({"eos_token": "</s>", "pad_token": "<nothing>"})", {}),
            (std::vector<Kind>{Kind::kUnknownToken, Kind::kNoPad}));
  EXPECT_EQ(kinds(good, {.eos_ids = {1}}), std::vector<Kind>{Kind::kOtherEos});
  EXPECT_EQ(kinds(good, {.embedding_rows = 100}), std::vector<Kind>{Kind::kNoRow});
  EXPECT_EQ(kinds(good, {.untrained_ids = {1}, .chat_template = "{{ '<s>' }}"}),
            std::vector<Kind>{Kind::kUntrained});
  EXPECT_EQ(kinds(good, {.untrained_ids = {1}, .chat_template = "x"}), std::vector<Kind>{});

  const Tokenizer bad = load(file, Json::parse(R"({"eos_token": "</s>", "pad_token": "</s>"})", "config"));
  const TokenizerFinding finding = check_tokenizer(bad, {}).front();
  ASSERT_EQ(finding.suggested_id, 0);  // <unk>
  const std::vector<NamedToken> pad = {{"pad_token", bad.id_to_token(*finding.suggested_id)}};
  EXPECT_EQ(bad.with_named_tokens(pad).pad_id(), 0);
  EXPECT_EQ(bad.with_named_tokens(pad).eos_id(), 2);
  EXPECT_THROW(bad.with_named_tokens(std::vector<NamedToken>{{"pad_token", "<none>"}}), UserError);
}

TEST(Tokenizer, NamedTokensComeFromTheConfig) {
  const Json config =
      Json::parse(R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null})", "config");
  const Tokenizer tokenizer = load(read_fixture("tokenizer_llama").at("tokenizer"), config);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_EQ(tokenizer.pad_id(), std::nullopt);
  EXPECT_EQ(tokenizer.config(), config);
}

TEST(Tokenizer, ConfigAddsBosOnlyWhereTheFileHasNoPostProcessor) {
  const Json config = Json::parse(R"({"bos_token": "<s>", "add_bos_token": true})", "config");
  Json file = read_fixture("tokenizer_llama").at("tokenizer");
  const std::vector<int32_t> ids = load(file).encode("Hello").ids;
  EXPECT_EQ(load(file, config).encode("Hello").ids, ids);
  file.set("post_processor", Json());
  EXPECT_EQ(load(file, config).encode("Hello").ids, ids);
  EXPECT_EQ(load(file).encode("Hello").ids, std::vector<int32_t>(ids.begin() + 1, ids.end()));
}

void expect_error(const std::string& json, const std::string& part) {
  try {
    Tokenizer::from_json(json, Json::object(), "tokenizer.json");
    ADD_FAILURE() << "no error for " << json;
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).rfind("tokenizer.json", 0), 0u) << error.what();
  }
}

TEST(Tokenizer, BadFilesAreErrorsThatNameThePart) {
  const std::string model = R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]})";
  expect_error("", "JSON");
  expect_error("[]", "object");
  expect_error("{}", "model");
  expect_error(R"({"model":{"type":"Unigram","vocab":[]}})", "Unigram");
  expect_error(R"({"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})", "'a'");
  expect_error(R"({"model":{"type":"BPE","vocab":{"a":99999999999},"merges":[]}})", "'a'");
  expect_error(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a z"]}})", "'z'");
  expect_error(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[7]}})", "merges[0]");
  expect_error("{" + model + R"(,"normalizer":{"type":"Nmd"}})", "normalizer 'Nmd'");
  expect_error("{" + model + R"(,"pre_tokenizer":{"type":"UnicodeScript"}})", "'UnicodeScript'");
  expect_error("{" + model + R"(,"pre_tokenizer":{"type":"Digits"}})", "individual_digits");
  expect_error("{" + model + R"(,"decoder":{"type":"CTC"}})", "cleanup");
  expect_error("{" + model + R"(,"added_tokens":[{"content":"x"}]})", "added_tokens");
}

TEST(Tokenizer, MergesWhoseTokensHoldSpacesAreRead) {
  const Tokenizer tokenizer = load(Json::parse(
      R"({"model":{"type":"BPE","vocab":{" ":0,"  ":1,"a":2,"a  ":3},"merges":["   ","a   "]}})", "text"));
  EXPECT_EQ(tokenizer.encode("a  ").ids, std::vector<int32_t>{3});
}

// llama.cpp's texts and ids, without special tokens.
struct RealTokenizer {
  const char *directory, *cases;
};
class RealTokenizerTest : public ::testing::TestWithParam<RealTokenizer> {};

TEST_P(RealTokenizerTest, GivesTheIdsThatLlamaCppExpects) {
  SERVAL_NEEDS_DATA("tokenizers");
  const auto [directory, cases] = GetParam();
  const Tokenizer tokenizer = Tokenizer::from_directory(test_data(std::string("tokenizers/") + directory));
  const std::string base = test_data(std::string("tokenizers/ggml-vocab/ggml-vocab-") + cases + ".gguf");
  const std::string input = read_file(base + ".inp"), output = read_file(base + ".out");
  const std::string separator = "\n__ggml_vocab_test__\n";
  size_t text_at = 0, line_at = 0, count = 0;
  while (text_at < input.size()) {
    const size_t text_end = std::min(input.find(separator, text_at), input.size());
    const size_t line_end = std::min(output.find('\n', line_at), output.size());
    const std::string text = input.substr(text_at, text_end - text_at);
    std::string got;
    for (const int32_t id : tokenizer.encode(text, {.add_special_tokens = false}).ids)
      got += ' ' + std::to_string(id);
    std::string expected = output.substr(line_at, line_end - line_at);
    while (!expected.empty() && expected.back() == ' ') expected.pop_back();
    EXPECT_EQ(got, expected) << json_quote(text);
    text_at = text_end + separator.size();
    line_at = line_end + 1;
    ++count;
  }
  EXPECT_GT(count, 40u);
}

INSTANTIATE_TEST_SUITE_P(LlamaCpp, RealTokenizerTest,
                         ::testing::Values(RealTokenizer{"llama3", "llama-bpe"},
                                           RealTokenizer{"qwen2.5", "qwen2"},
                                           RealTokenizer{"phi-3-mini", "phi-3"},
                                           RealTokenizer{"llama2", "llama-spm"}),
                         [](const auto& param) {
                           std::string name = param.param.cases;
                           std::erase(name, '-');
                           return name;
                         });

TEST(RealTokenizer, Stories260KReadsItsOwnText) {
  SERVAL_NEEDS_DATA("models/stories260K");
  const Tokenizer tokenizer = Tokenizer::from_directory(test_data("models/stories260K/hf"));
  const std::string text = "Once upon a time, there was a little girl named Lily.";
  const Encoding encoding = tokenizer.encode(text);
  EXPECT_EQ(encoding.ids.front(), tokenizer.bos_id());
  EXPECT_EQ(tokenizer.decode(encoding.ids, /*skip_special_tokens=*/true), text);
  EXPECT_EQ(tokenizer.vocab_size(), 512);
}

}  // namespace
}  // namespace serval
