#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <chrono>
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

// Each takes less than a second on an idle machine; sanitizers are some twenty times slower.
#ifdef __SANITIZE_ADDRESS__
constexpr double kMostSeconds = 90;
#else
constexpr double kMostSeconds = 5;
#endif

TEST(ChatTemplate, RunsOutOfNothing) {
  const std::string deep_parens = std::string(100'000, '(') + "1" + std::string(100'000, ')');
  std::string long_sum = "1";
  for (int i = 0; i < 100'000; i++) long_sum += "+1";
  std::string nested_ifs;
  for (int i = 0; i < 10'000; i++) nested_ifs += "{% if 1 %}";
  const std::string hostile[] = {
      "{{ " + deep_parens + " }}",
      "{{ " + long_sum + " }}",
      "{{ x" + std::string(100'000, '[') + " }}",
      nested_ifs,
      std::string((1 << 20) + 1, 'x'),
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(n) %}{{ f(n) ~ f(n) }}{% endmacro %}{{ f(1) }}",
      "{{ range(10 ** 12) }}",
      "{{ 'x' * 10 ** 12 }}",
      "{{ [0] * 10 ** 12 }}",
      "{{ 10 ** 4300 }}",
      "{% set ns = namespace(n=10 ** 4000) %}{% for i in range(99999) %}{% set ns.n = ns.n * 10 ** 4000 // "
      "10 ** 4000 %}{% endfor %}",
      "{% set ns = namespace(n=3 ** 4000) %}{% for i in range(99999) %}{% set ns.n = (ns.n * 7) % 3 ** 4000 "
      "%}{{ ns.n // 3 ** 2000 }}{% endfor %}",
      "{{ '%1000000000d' % 1 }}",
      "{{ '{:1000000000}'.format(1) }}",
      "{{ 'x'.ljust(10 ** 15) }}",
      "{{ 'x' | indent(10 ** 15) }}",
      "{{ '%.1000000000f' % 1 }}",
      "{{ '%*d' % (10 ** 9, 1) }}",
      "{{ ('a@' * 2000000) | urlize | nope }}",
      "{{ ('x ' * 3000000) | pprint }}",
      "{{ ('a ' * 4000000) | wordwrap(3) }}",
      "{{ ('a' * 1000000,) * 1000 }}",
      "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
      "{{ [1] | slice(10 ** 12) | list }}",
      "{{ ('{0[0]' ~ '[0]' * 500000 ~ '}').format([1]) }}",
      "{% set ns = namespace(s='xxxxxxxxxx') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor "
      "%}",
      "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s.replace('', ns.s) %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ "
      "ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}",
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{% for a in range(99999) %}{% for b in range(9999) %}xxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{% set s = 'é ' * 500000 %}{% for i in range(99999) %}{% set t = s | wordcount %}{% endfor %}",
      "{% set s = 'é ' * 500000 %}{% for i in range(99999) %}{% set t = s | title %}{% endfor %}",
      "{% set s = 'é' * 500000 %}{% for i in range(99999) %}{% set t = s.upper() %}{% endfor %}",
      "{% set s = 'é ' * 500000 %}{% for i in range(99999) %}{% set t = s | urlencode %}{% endfor %}",
      "{% set s = 'é\n' * 500000 %}{% for i in range(99999) %}{% set t = s | indent %}{% endfor %}",
      "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% set t = s.rfind('a' * 9999 ~ 'b') %}{% "
      "endfor %}",
  };
  for (const std::string& source : hostile) {
    SCOPED_TRACE(source.substr(0, 120));
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(error_of(source).find("no error"), std::string::npos);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    EXPECT_LT(taken.count(), kMostSeconds);
  }
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
