#include "config/yaml.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace serval {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_yaml(text, "c.yaml");
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Yaml, KeepsTextListsMapsAndLines) {
  const auto members =
      parse_yaml("a: 1e-4\nb: [x, 'y z']\nc:\n  q: 3\n  '#r': 4\nd: null\ne: 'null'\nf:\n", "c.yaml");
  ASSERT_EQ(members.size(), 6u);
  EXPECT_EQ(members[0].first, "a");
  EXPECT_EQ(members[0].second.text, "1e-4");
  EXPECT_EQ(members[0].second.where, "c.yaml:1");
  EXPECT_EQ(members[1].second.form, RawValue::Form::list);
  EXPECT_EQ(members[1].second.items[1].text, "y z");
  EXPECT_EQ(members[2].second.form, RawValue::Form::map);
  EXPECT_EQ(members[2].second.names[1], "#r");
  EXPECT_EQ(members[2].second.items[1].where, "c.yaml:5");
  EXPECT_EQ(members[3].second.form, RawValue::Form::null);
  EXPECT_EQ(members[4].second.text, "null");
  EXPECT_EQ(members[4].second.form, RawValue::Form::scalar);
  EXPECT_EQ(members[5].second.form, RawValue::Form::null);
}

TEST(Yaml, ReadsJsonAndNothing) {
  EXPECT_EQ(parse_yaml("{\"a\": 1, \"b\": [true]}", "c.json").size(), 2u);
  EXPECT_TRUE(parse_yaml("", "c.yaml").empty());
  EXPECT_TRUE(parse_yaml("# nothing\n", "c.yaml").empty());
}

TEST(Yaml, RefusesWithFileAndLine) {
  struct Case {
    std::string text, expected;
  };
  const Case cases[] = {
      {"a: 1\nb: 2\na: 3\n", "c.yaml:3: key 'a' is given twice (first at c.yaml:1)"},
      {"a: &x 1\nb: *x\n", "c.yaml:1: an anchor"},
      {"a: 1\nb: *x\n", "c.yaml:2: "},
      {"a: !!python/object x\n", "c.yaml:1: a tag"},
      {"- a\n- b\n", "c.yaml:1: expected lines of 'key: value', found a list"},
      {"just words\n", "c.yaml:1: expected lines of 'key: value', found 'just words'"},
      {"a: 1\n[b, c]: 2\n", "c.yaml:2: a key must be a name"},
      {"a: [1, 2\n", "not valid YAML"},
      {"a: 1\n b: 2\n", "c.yaml:2: not valid YAML"},
      {"a: 1\n---\nb: 2\n", "more than one YAML document"},
      {"a: " + std::string(1000, '[') + std::string(1000, ']'), "c.yaml:1: nested more than 8 deep"},
      {"a: " + std::string(100000, '['), "c.yaml:1: "},
      {std::string("a: 1\0", 5), "zero byte"},
      {"a: " + std::string(1 << 20, 'x'), "too large"},
  };
  for (const Case& c : cases)
    EXPECT_NE(error_of(c.text).find(c.expected), std::string::npos) << c.text.substr(0, 80) << '\n'
                                                                    << error_of(c.text);
}

TEST(Yaml, RefusesTooManyValues) {
  std::string text = "a: [";
  for (int i = 0; i < 20001; ++i) text += "1,";
  EXPECT_NE(error_of(text + "]").find("more than 20000 values"), std::string::npos);
}

}  // namespace
}  // namespace serval
