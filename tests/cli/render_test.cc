// serval render, through the program.
#include "cli/program.h"

namespace serval::testing {
namespace {

const char* const kRows =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Grüße\"}, {\"role\": \"assistant\", \"content\": "
    "\"hi\"}], \"who\": 1}\n"
    "\n"
    "not json\n"
    "{\"messages\": [{\"role\": \"user\", \"content\": \"b\"}], \"tools\": [{\"name\": \"f\"}]}\n"
    "{\"rows\": []}\n";

std::vector<Json> lines_of(const std::string& out) {
  std::vector<Json> lines;
  for (size_t at = 0; at < out.size();) {
    const size_t end = std::min(out.find('\n', at), out.size());
    lines.push_back(Json::parse(out.substr(at, end - at), "line"));
    at = end + 1;
  }
  return lines;
}

TEST(Render, ALineForEachRow) {
  const std::string root = scratch_directory();
  const std::string rows = write_file(root, "rows.jsonl", kRows);
  const std::string chat = write_file(root, "chat.jinja",
                                      "{{ who }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% "
                                      "endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
                                      "{{ tools | tojson }}{{ strftime_now('%Y') }}");
  const Finished run = run_serval(
      {"render", "--template", chat, "--conversations", rows, "--add-generation-prompt", "--now", "0"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const std::vector<Json> lines = lines_of(run.out);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0].as_string(), "1<user>Grüße<assistant>hi<assistant>null1970");
  EXPECT_HAS(lines[1].at("error").as_string(), "rows.jsonl:3");
  EXPECT_EQ(lines[2].as_string(), "<user>b<assistant>[{\"name\": \"f\"}]1970");
  EXPECT_HAS(lines[3].at("error").as_string(), "messages");
  EXPECT_HAS(run.out, "Grüße");  // not escaped
}

TEST(Render, SpansAreBytes) {
  const std::string root = scratch_directory();
  const std::string rows = write_file(root, "rows.jsonl", kRows);
  const Finished run = run_serval({"render", "--template", "chatml", "--conversations", rows, "--spans"});
  const Json first = lines_of(run.out)[0];
  const std::string& text = first.at("text").as_string();
  const auto& span = first.at("spans").as_array().at(0).as_array();
  const auto begin = static_cast<size_t>(span[0].as_int()), end = static_cast<size_t>(span[1].as_int());
  EXPECT_EQ(text.substr(begin, end - begin), "hi<|im_end|>\n");
  EXPECT_EQ(first.at("messages").as_array().at(0).as_int(), 1);
}

TEST(Render, FromATokenizerAndFromStandardInput) {
  const std::string root = scratch_directory();
  write_file(root, "tokenizer_config.json",
             R"({"bos_token": "<s>", "chat_template": [{"name": "default", "template": "{{ bos_token }}d"},
      {"name": "tool_use", "template": "t"}]})");
  Process process({"render", "--tokenizer", root, "--conversations", "-"}, {.input = kRows});
  const Finished run = process.wait();
  EXPECT_EQ(lines_of(run.out)[0].as_string(), "<s>d");
  EXPECT_EQ(lines_of(run.out)[2].as_string(), "t");
  EXPECT_EQ(lines_of(run_serval({"render", "--tokenizer", root, "--template-name", "tool_use",
                                 "--conversations", write_file(root, "r.jsonl", kRows)})
                         .out)[0]
                .as_string(),
            "t");
}

TEST(Render, Refusals) {
  const std::string root = scratch_directory();
  const std::string rows = write_file(root, "rows.jsonl", kRows);
  EXPECT_FAILS(run_serval({"render", "--conversations", rows}), 2, "--tokenizer or --template");
  EXPECT_FAILS(run_serval({"render", "--template", "chatml"}), 2, "conversations is missing");
  EXPECT_FAILS(run_serval({"render", "--template", "chatml", "--conversations", root + "/none"}), 1, "none");
  EXPECT_FAILS(run_serval({"render", "--template", "chatml", "--conversations", rows,
                           "--continue-final-message", "content", "--add-generation-prompt"}),
               2, "exclude each other");
  // A template that does not parse: a line for each row, and the reason.
  const Finished broken = run_serval(
      {"render", "--template", write_file(root, "b.jinja", "a\n{% if %}"), "--conversations", rows});
  EXPECT_EQ(broken.exit_code, 1);
  EXPECT_EQ(lines_of(broken.out).size(), 4u);
  EXPECT_HAS(broken.err, "line 2, column 7");
}

}  // namespace
}  // namespace serval::testing
