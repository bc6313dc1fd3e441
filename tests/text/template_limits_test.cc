// Whatever a template asks for, it ends soon and within its memory: with one error, or with what it wanted.
#include <gtest/gtest.h>

#include <ctime>
#include <map>
#include <set>

#include "base/error.h"
#include "text/chat_template.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/parser.h"
#include "text/jinja/registry.h"

namespace serval {
namespace {

std::string error_of(const std::string& source) {
  try {
    return "no error: " +
           ChatTemplate(source, Json::object(), "t").render(Json::object()).text.substr(0, 100);
  } catch (const UserError& error) {
    return error.what();
  }
}

// Of this process, so that others on the machine do not count. Sanitizers are some ten times slower.
#ifdef __SANITIZE_ADDRESS__
constexpr double kMostSeconds = 12;
#else
constexpr double kMostSeconds = 1;
#endif

// The error, after a check of the time it took.
std::string timed_error_of(const std::string& source) {
  const std::clock_t start = std::clock();
  std::string error = error_of(source);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, kMostSeconds) << source.substr(0, 300);
  return error;
}

TEST(TemplateLimits, HostileTemplatesEndInOneError) {
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
      "{{ ('a' * 250000,) * 1000 }}",
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
      "{% set s = 'a' * 250000 %}{% for i in range(99999) %}{% set t = s.rfind('a' * 9999 ~ 'b') %}{% "
      "endfor %}",
  };
  for (const std::string& source : hostile) {
    SCOPED_TRACE(source.substr(0, 120));
    const std::string error = timed_error_of(source);
    EXPECT_EQ(error.find("no error"), std::string::npos);
    EXPECT_TRUE(error.find(", line ") != std::string::npos ||
                error.find(" bytes (limit: ") != std::string::npos)
        << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

using Calls = std::map<std::string, std::vector<std::string>, std::less<>>;

// Large values of each kind. A template holds those that it names; `x` is the one that the loop works on.
std::string with_values(const std::string& use) {
  constexpr std::pair<const char*, const char*> kValues[] = {
      {"number", "7 ** 4000"},
      {"rows", "[{'a': 'x', 'b': text}] * 12000"},
      {"pairs", "words[:5000] | map('list') | list"},
      {"words", "text.split()"},
      {"dict", "dict.fromkeys(range(5000), text)"},
      {"list", "range(25000) | list"},
      {"near", "'a' * 999 ~ 'b'"},
      {"word", "'a' * 250000"},
      {"text", "'aé <b>\\t--x y.com\\n' * 15000"},
  };
  std::string source = use;
  for (const auto& [name, value] : kValues)
    if (source.find(name) != std::string::npos)
      source.insert(0, fmt::format("{{% set {} = {} %}}", name, value));
  return source;
}

// As a ChatTemplate renders, with a twentieth of its work, but its memory, which one step may fill.
void check_time(const std::string& source) {
  jinja::Limits limits;
  limits.work /= 20;
  const std::clock_t start = std::clock();
  try {
    const auto program = jinja::parse_template(source, limits);
    jinja::Meter meter(limits);
    const jinja::MeterScope scope(meter);
    jinja::Interpreter interpreter(*program, {}, 0);
    jinja::Output output;
    interpreter.run(output);
  } catch (const jinja::TemplateError&) {
    // Most end so.
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, 0.5 * kMostSeconds) << source;
}

void check_in_loops(const std::string& what, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs)
    check_time(with_values(fmt::format(
        "{{% set x = {} %}}{{% for i in range(99999) %}}{{% set y = {} %}}{{% endfor %}}", input, what)));
}

TEST(TemplateLimits, EveryMethodIsCharged) {
  // Without an entry a method is called without arguments.
  const Calls calls = {
      {"center", {"99999999", "2000000, 'é'"}},
      {"count", {"near", "'a'", "''", "'é'", "text"}},
      {"encode", {""}},
      {"endswith", {"near", "word", "(word,) * 1000"}},
      {"expandtabs", {"", "1000000"}},
      {"find", {"near", "'zz'", "'a' * 125000 ~ 'b'", "'z', 500000"}},
      {"format", {"word", "*words", "**{'a': 1}"}},
      {"format_map", {"dict", "{'a': word}"}},
      {"index", {"near", "'zz'", "text"}},
      {"join", {"words", "text", "dict | map('string')"}},
      {"ljust", {"99999999", "2000000, 'é'"}},
      {"lstrip", {"", "'a'", "word", "text"}},
      {"maketrans", {"text, text", "dict", "text, text, word"}},
      {"partition", {"near", "'zz'", "'a'"}},
      {"removeprefix", {"'a'", "word"}},
      {"removesuffix", {"'a'", "word"}},
      {"replace", {"'a', 'bb'", "'', 'x'", "near, ''", "'a', word", "'é', '', 5"}},
      {"rfind", {"near", "'zz'", "'a' * 125000 ~ 'b'"}},
      {"rindex", {"near", "'zz'"}},
      {"rjust", {"99999999"}},
      {"rpartition", {"near", "'zz'"}},
      {"rsplit", {"", "'a'", "near", "none, 5", "'zz'"}},
      {"rstrip", {"", "'a'", "word", "text"}},
      {"split", {"", "'a'", "near", "none, 5", "'zz'"}},
      {"splitlines", {"", "true"}},
      {"startswith", {"near", "word", "(word,) * 1000"}},
      {"strip", {"", "'a'", "word", "text"}},
      {"translate", {"{97: word}", "dict", "{97: none}"}},
      {"zfill", {"99999999", "2000000"}},
  };
  std::set<std::string_view> used;
  for (const std::string_view name : jinja::method_names(jinja::Value("text"))) {
    const auto at = calls.find(name);
    if (at != calls.end()) used.insert(at->first);
    for (const std::string& arguments : at != calls.end() ? at->second : std::vector<std::string>{""})
      check_in_loops("x." + std::string(name) + "(" + arguments + ")", {"text"});
  }
  EXPECT_EQ(used.size(), calls.size());
}

TEST(TemplateLimits, MethodsOfOtherTypesAreCharged) {
  const auto dict = std::make_shared<jinja::Dict>();
  const std::pair<jinja::Value, std::vector<std::string>> kinds[] = {
      {jinja::Value::list({}), {"list", "words", "rows", "pairs"}},
      {jinja::Value::tuple({}), {"range(99999)", "dict.items() | first", "(words,) * 1000"}},
      {jinja::Value(dict), {"dict", "{'a': words}"}},
      {jinja::Value(int64_t{1}), {"number", "7"}},
      {jinja::Value(1.0), {"1e300", "5e-324"}},
  };
  for (const auto& [value, inputs] : kinds)
    for (const std::string_view name : jinja::method_names(value)) {
      const std::string method(name);
      const bool takes_one = method == "count" || method == "index" || method == "get";
      for (const char* argument : {"'zz'", "words"})
        check_in_loops("x." + method + "(" + (takes_one ? argument : "") + ")", inputs);
    }
}

TEST(TemplateLimits, EveryFilterIsCharged) {
  const Calls calls = {
      {"attr", {"'upper'", "word"}},
      {"batch", {"2", "99999999, 'x'", "1"}},
      {"center", {"99999999", "80"}},
      {"default", {"''", "word, true"}},
      {"dictsort", {"", "by='value'", "reverse=true"}},
      {"format", {"word", "a=word"}},
      {"groupby", {"'a'", "0", "'b.c', default=word"}},
      {"indent", {"", "99999999", "word, true, true"}},
      {"int", {"", "0, 36", "0, 2"}},
      {"join", {"", "word", "', ', attribute='b'"}},
      {"map", {"'upper'", "attribute='b'", "'string'", "'tojson'", "'replace', 'a', word"}},
      {"max", {"", "attribute='b'"}},
      {"min", {"", "attribute='b'"}},
      {"reject", {"", "'in', text", "'equalto', text", "'lower'"}},
      {"rejectattr", {"'b'", "'b', 'in', text", "'b', 'equalto', text"}},
      {"replace", {"'a', 'bb'", "'', 'x'", "near, ''", "'a', word"}},
      {"round", {"", "-300", "300, 'ceil'"}},
      {"select", {"", "'in', text", "'equalto', text", "'upper'"}},
      {"selectattr", {"'b'", "'b', 'in', text", "'b', 'equalto', text"}},
      {"slice", {"2", "99999999", "99999, 'x'"}},
      {"sort", {"", "true", "attribute='b'", "false, true"}},
      {"sum", {"", "start=[]", "attribute='b'"}},
      {"tojson", {"", "indent=1000", "true", "sort_keys=true"}},
      {"trim", {"", "word", "text"}},
      {"truncate", {"", "100000", "100000, true, text"}},
      {"unique", {"", "true", "attribute='b'"}},
      {"urlize", {"", "5, true", "extra_schemes=['a:', 'b:']"}},
      {"wordwrap", {"", "1", "99999999", "3, false, word"}},
      {"xmlattr", {"", "false"}},
  };
  std::set<std::string_view> used;
  for (const auto& table : {jinja::text_filters(), jinja::number_filters(), jinja::sequence_filters(),
                            jinja::html_filters(), jinja::layout_filters()})
    for (const jinja::FilterEntry& filter : table) {
      const auto at = calls.find(filter.name);
      if (at != calls.end()) used.insert(at->first);
      for (const std::string& arguments : at != calls.end() ? at->second : std::vector<std::string>{""}) {
        const std::string call = "(x | " + std::string(filter.name) + "(" + arguments + "))";
        check_in_loops(call, {"text", "words", "rows"});
        if (arguments.empty()) check_in_loops(call + " | list", {"word", "list", "dict", "pairs", "number"});
      }
    }
  EXPECT_EQ(used.size(), calls.size());
}

TEST(TemplateLimits, OperatorsAndFormatsAreCharged) {
  for (const char* what : {"x == text ~ 'b'",
                           "x < text ~ 'b'",
                           "near in x",
                           "x in words",
                           "x in list",
                           "x in dict",
                           "x in [text] * 999",
                           "x ~ x",
                           "x + x",
                           "x * 2",
                           "x * 99999999",
                           "x[::-1]",
                           "x[1:]",
                           "x[5]",
                           "x[-1]",
                           "x[::3]",
                           "'%s' % x",
                           "'%r' % x",
                           "'%5000s' % x",
                           "'%.5000s' % x",
                           "('%' * 500000) % x",
                           "('%%' * 500000) % x",
                           "('%s' * 5000) % (x,)",
                           "('{0}' * 5000).format(x)",
                           "'{:9999}'.format(x)",
                           "'{!r}'.format(x)",
                           "('{' * 500000).format(x)",
                           "'%d' % x",
                           "'%x' % x",
                           "x ** 2",
                           "x // 3",
                           "x % 3 ** 2000",
                           "x / 3",
                           "x * x",
                           "-x",
                           "x is lower",
                           "x is upper",
                           "x is in text",
                           "x is in words",
                           "x is divisibleby 3",
                           "x == list",
                           "x == words",
                           "x < words",
                           "{x: x}",
                           "dict(a=x)",
                           "namespace(a=x)",
                           "[x, x]",
                           "x, x",
                           "cycler(*words).next()",
                           "range(99999) | list == list",
                           "strftime_now(x)"})
    check_in_loops(what, {"text", "words", "number"});
}

TEST(TemplateLimits, MacrosAndLoopsEnd) {
  for (const char* source :
       {"{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
        "{% macro f(n) %}{{ caller() if caller is defined }}{% call f(n) %}{{ n }}{% endcall %}{% endmacro "
        "%}{{ f(1) }}",
        "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
        "{% set ns = namespace(f=none) %}{% macro f() %}{{ ns.f() }}{% endmacro %}{% set ns.f = f %}{{ f() "
        "}}",
        "{% for a in range(99999) %}{% filter upper %}{{ 'x' * 100000 }}{% endfilter %}{% endfor %}",
        "{% for a in range(99999) %}{% set x %}{{ 'x' * 100000 }}{% endset %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for a in range(99999) %}{% set ns.l = ns.l + [a] %}{% endfor %}"}) {
    const std::string error = timed_error_of(source);
    EXPECT_EQ(error.find("no error"), std::string::npos) << source;
  }
}

}  // namespace
}  // namespace serval
