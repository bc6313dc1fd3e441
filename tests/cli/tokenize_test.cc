// serval tokenize as a user meets it. The tokenizer is one of the fixtures: <s> before the text, byte
// fallback.
#include "cli/program.h"

namespace serval::testing {
namespace {

std::string tokenizer_file(const std::string& root, const std::string& name) {
  const Json data = Json::parse(read_file(fixture("text/" + name + ".json")), name);
  return write_file(root, "tokenizer.json", data.at("tokenizer").dump());
}

Finished tokenize(std::vector<std::string> words, const std::string& input) {
  words.insert(words.begin(), "tokenize");
  return run_serval(words, {.input = input});
}

TEST(Tokenize, LinesBecomeIdsAndBack) {
  const std::string root = scratch_directory(), file = tokenizer_file(root, "tokenizer_llama");
  Finished run = tokenize({"--tokenizer", root}, "Hello\n\nnaïve <s>\n");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const std::string ids = run.out;
  EXPECT_EQ(std::count(ids.begin(), ids.end(), '\n'), 3);
  EXPECT_TRUE(ids.starts_with("1 ")) << ids;
  // A file is as good as its directory, and a last line needs no newline.
  EXPECT_EQ(tokenize({"--tokenizer", file}, "Hello\n\nnaïve <s>").out, ids);
  run = tokenize({"--tokenizer", file, "--no-special"}, "Hello\n\nnaïve <s>\n");
  EXPECT_FALSE(run.out.starts_with("1 ")) << run.out;
  EXPECT_TRUE(run.out.ends_with(" 1\n")) << run.out;  // written in the text, so recognised
  run = tokenize({"--tokenizer", file, "--decode"}, ids);
  EXPECT_EQ(run.out, "<s> Hello\n<s>\n<s> naïve <s>\n") << run.err;
  run = tokenize({"--tokenizer", file, "--decode", "--no-special", "--json"}, ids);
  EXPECT_EQ(run.out, "\"Hello\"\n\"\"\n\"naïve \"\n") << run.err;
}

TEST(Tokenize, JsonTellsOffsetsAndPieces) {
  const std::string root = scratch_directory(), file = tokenizer_file(root, "tokenizer_llama");
  const std::string text = "Hello you";
  const Finished run = tokenize({"--tokenizer", file, "--json"}, text + "\n");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json line = Json::parse(run.out, "line");
  const Json::Array& pieces = line.at("pieces").as_array();
  ASSERT_EQ(line.at("ids").size(), pieces.size());
  ASSERT_EQ(line.at("offsets").size(), pieces.size());
  EXPECT_EQ(pieces[0].as_string(), "<s>");
  // The mark that stands before the text has the span of its first character.
  std::string joined;
  int64_t end = 0;
  for (size_t i = 1; i < pieces.size(); ++i) {
    const Json::Array& span = line.at("offsets").as_array()[i].as_array();
    EXPECT_TRUE(span[0].as_int() == end || i < 3);
    end = span[1].as_int();
    joined += pieces[i].as_string();
  }
  EXPECT_EQ(joined, "▁<0x48>ello▁you");
  EXPECT_EQ(end, static_cast<int64_t>(text.size()));
}

TEST(Tokenize, ManyLinesKeepTheirOrderOnAnyNumberOfThreads) {
  const std::string root = scratch_directory(), file = tokenizer_file(root, "tokenizer_gpt2");
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "line " + std::to_string(i * 7919) + std::string(i % 40, 'x') + "\n";
  const Finished one = tokenize({"--tokenizer", file, "--num-threads", "1"}, text);
  const Finished four = tokenize({"--tokenizer", file, "--num-threads", "4"}, text);
  ASSERT_EQ(one.exit_code, 0) << one.err;
  EXPECT_EQ(one.out, four.out);
  EXPECT_EQ(tokenize({"--tokenizer", file, "--decode"}, one.out).out, text);
}

TEST(Tokenize, HostileLinesAreText) {
  const std::string root = scratch_directory(), file = tokenizer_file(root, "tokenizer_gpt2");
  // A NUL is a character; what is no UTF-8 becomes U+FFFD, as Python's decoder has it; "\r" belongs to the
  // line.
  Finished run = tokenize({"--tokenizer", file}, std::string("a\0b\nx\xff\xc3(\r\n\xed\xa0\x80", 13));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const std::string replacement = "\xEF\xBF\xBD";
  run = tokenize({"--tokenizer", file, "--decode"}, run.out);
  EXPECT_EQ(run.out, std::string("a\0b\n", 4) + "x" + replacement + replacement + "(\r\n" + replacement +
                         replacement + replacement + "\n");
  // One word of a million letters.
  std::string word(1'000'000, 'x');
  for (size_t i = 0; i < word.size(); i += 7) word[i] = static_cast<char>('a' + i % 26);
  run = tokenize({"--tokenizer", file}, word + "\n");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(tokenize({"--tokenizer", file, "--decode"}, run.out).out, word + "\n");
}

TEST(Tokenize, SectionsThatAreIgnoredAreNamed) {
  const std::string root = scratch_directory();
  Json data = Json::parse(read_file(fixture("text/tokenizer_gpt2.json")), "fixture").at("tokenizer");
  data.set("truncation", Json::parse(R"({"max_length": 2})", "truncation"));
  const std::string file = write_file(root, "tokenizer.json", data.dump());
  const Finished run = tokenize({"--tokenizer", file}, "some longer words\n");
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_HAS(run.err, "\"truncation\" is ignored");
}

TEST(Tokenize, WrongInputIsOneError) {
  const std::string root = scratch_directory(), file = tokenizer_file(root, "tokenizer_gpt2");
  EXPECT_FAILS(run_serval({"tokenize"}), 2, "--tokenizer is missing");
  EXPECT_FAILS(tokenize({"--tokenizer", root + "/none"}, ""), 1, "none: no such file");
  EXPECT_FAILS(tokenize({"--tokenizer", file, "--decode"}, "1 2 x\n"), 1, "stdin:1: expected ids");
  EXPECT_FAILS(tokenize({"--tokenizer", file, "--decode"}, "1\n-5\n"), 1, "stdin:2");
  EXPECT_FAILS(tokenize({"--tokenizer", file, "--decode"}, "99999\n"), 1, "not below");
}

}  // namespace
}  // namespace serval::testing
