#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "support/test_data.h"

namespace serval {
namespace {

std::string render(const std::string& source, const Json& conversation = Json::object()) {
  return ChatTemplate(source, Json::object(), "t").render(conversation).text;
}

std::string error_of(const std::string& source) {
  try {
    return "no error: " + render(source).substr(0, 100);
  } catch (const UserError& error) {
    return error.what();
  }
}

// Cases made by tests/reference/make_jinja_fixtures.py with Python's jinja2.
TEST(ChatTemplate, EqualsJinja2) {
  setenv("TZ", "UTC", 1);
  const std::string path = testing::fixture("text/jinja_cases.json");
  const Json fixture = Json::parse(read_file(path), path);
  RenderOptions options;
  options.now = fixture.at("now").as_int();
  int64_t checked = 0;
  for (const Json& expected : fixture.at("cases").as_array()) {
    const std::string& source = expected.at("template").as_string();
    SCOPED_TRACE(source);
    checked++;
    try {
      const RenderedChat chat =
          ChatTemplate(source, Json::object(), "t").render(fixture.at("context"), options);
      ASSERT_FALSE(expected.contains("error")) << "gave " << chat.text;
      EXPECT_EQ(chat.text, expected.at("text").as_string());
      std::vector<TextSpan> spans;
      if (const Json* given = expected.find("spans"))
        for (const Json& span : given->as_array())
          spans.push_back({span.as_array()[0].as_int(), span.as_array()[1].as_int()});
      EXPECT_EQ(chat.generated, spans);
    } catch (const UserError& error) {
      EXPECT_TRUE(expected.contains("error")) << error.what();
    }
  }
  EXPECT_GT(checked, 800);
}

// Random templates made by tests/reference/make_jinja_random_fixture.py.
TEST(ChatTemplate, EqualsJinja2OnRandomTemplates) {
  setenv("TZ", "UTC", 1);
  const std::string path = testing::fixture("text/jinja_random.json");
  const Json fixture = Json::parse(read_file(path), path);
  RenderOptions options;
  options.now = fixture.at("now").as_int();
  int64_t rendered = 0, refused = 0;
  for (const Json& expected : fixture.at("cases").as_array()) {
    const std::string& source = expected.at("template").as_string();
    SCOPED_TRACE(source);
    try {
      const std::string text =
          ChatTemplate(source, Json::object(), "t").render(expected.at("context"), options).text;
      ASSERT_FALSE(expected.contains("error")) << "gave " << text;
      EXPECT_EQ(text, expected.at("text").as_string());
      rendered++;
    } catch (const UserError& error) {
      // Refused by design; tests/reference/check_jinja.py says what.
      const std::string message = error.what();
      const bool by_design = message.find("complex number") != std::string::npos ||
                             message.find("too much") != std::string::npos ||
                             message.find("unhashable type: 'slice'") != std::string::npos;
      EXPECT_TRUE(expected.contains("error") || by_design) << message;
      refused++;
    }
  }
  EXPECT_GT(rendered, 80);
  EXPECT_GT(refused, 50);
}

TEST(ChatTemplate, SpansSurviveMacrosAndSetBlocks) {
  const auto spans = [](const char* source) {
    return ChatTemplate(source, Json::object(), "t").render(Json::object()).generated;
  };
  EXPECT_EQ(spans("ab{% macro m() %}cd{% generation %}ef{% endgeneration %}{% endmacro %}{{ m() }}"),
            (std::vector<TextSpan>{{4, 6}}));
  EXPECT_EQ(spans("a{% set x %} {% generation %}bc{% endgeneration %} {% endset %}{{ x | trim ~ 'z' }}"),
            (std::vector<TextSpan>{{1, 3}}));
}

TEST(ChatTemplate, ErrorsNameThePlace) {
  EXPECT_EQ(error_of("a\n  {{ nope.x }}"), "t: chat template, line 2, column 10: 'nope' is undefined");
  EXPECT_EQ(
      error_of("a\n{% if x %}"),
      "t: chat template, line 2, column 11: Unexpected end of template. Jinja was looking for the following "
      "tags: 'elif' or 'else' or 'endif'. The innermost block that needs to be closed is 'if'.");
  EXPECT_NE(error_of("{{ raise_exception('no system role') }}").find("no system role"), std::string::npos);
  EXPECT_NE(error_of("{{ [].append(1) }}").find("access to attribute 'append' of 'list' object is unsafe"),
            std::string::npos);
}

TEST(ChatTemplate, CirclesAreFreed) {
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.x = ns %}{% set ns.l = [ns] %}{% macro m() %}{{ m }}"
                   "{% endmacro %}{% set ns.m = m %}ok"),
            "ok");
}

TEST(ChatTemplate, AbsentInDirectory) {
  const std::string directory = testing::scratch_directory();
  EXPECT_FALSE(ChatTemplate::exists_in(directory));
  EXPECT_THROW(ChatTemplate::from_directory(directory), UserError);
}

TEST(ChatTemplate, FromDirectory) {
  const std::string directory = testing::scratch_directory();
  write_file_atomically(directory + "/tokenizer_config.json",
                        R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": [
                            {"name": "rag", "template": "no"},
                            {"name": "default", "template": "{{ bos_token ~ messages[0].content ~ eos_token }}"}]})");
  const Json chat = Json::parse(R"({"messages": [{"role": "user", "content": "hi"}]})", "chat");
  EXPECT_TRUE(ChatTemplate::exists_in(directory));
  EXPECT_EQ(ChatTemplate::from_directory(directory).render(chat).text, "<s>hi</s>");
  write_file_atomically(directory + "/chat_template.jinja", "{{ messages[0].content }}|{{ tools is none }}");
  EXPECT_EQ(ChatTemplate::from_directory(directory).render(chat).text, "hi|True");
}

}  // namespace
}  // namespace serval
