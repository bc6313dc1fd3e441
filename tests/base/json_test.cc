#include "base/json.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace serval {
namespace {

TEST(Json, KeepsOrderAndTypes) {
  const Json value = Json::parse(R"({"b": 1, "a": [1.5, true, null, "é\n"], "c": {}})", "here");
  EXPECT_EQ(value.dump(), "{\"b\": 1, \"a\": [1.5, true, null, \"é\\n\"], \"c\": {}}");
  EXPECT_EQ(value.at("b").as_int(), 1);
  EXPECT_EQ(value.find("missing"), nullptr);
}

TEST(Json, IndentsAsPython) {
  EXPECT_EQ(Json::parse(R"({"a":[1,2],"b":{}})", "x").dump(2),
            "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}");
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"", "{", "[1,]", "{\"a\":1,\"a\":2}", "nul", "\"\xff\"", "[1] x", "01"})
    EXPECT_THROW(Json::parse(text, "here"), UserError) << text;
  EXPECT_THROW(Json::parse(std::string(200, '[') + std::string(200, ']'), "deep"), UserError);
}

TEST(Json, IntegersBeyond64BitsKeepTheirDigits) {
  const Json value = Json::parse(
      R"({"\"1": 1000000000000000019884624838656, "a": [-99999999999999999999, 9223372036854775807, "1e99999 \\"]})",
      "x");
  EXPECT_EQ(value.at("\"1").as_double(), 1e30);
  EXPECT_EQ(value.at("a").as_array()[0].as_double(), -1e20);
  EXPECT_EQ(value.at("a").as_array()[0].long_int_digits(), "-99999999999999999999");
  EXPECT_EQ(value.at("a").as_array()[1].as_int(), 9223372036854775807);
  EXPECT_EQ(value.at("a").as_array()[2].as_string(), "1e99999 \\");
  for (const char* text :
       {"0000000000000000000000000000001", "100000000000000000000-1", "99999999999999999999 1"})
    EXPECT_THROW(Json::parse(text, "here"), UserError) << text;
}

// Others are counted past: numbers of each kind, and what only looks like one inside a text or a key.
TEST(Json, IntegersBeyond64BitsAreWrittenAsRead) {
  for (
      const char* text :
      {"9223372036854775808", "18446744073709551615", "18446744073709551616", "-9223372036854775809",
       R"([1, -2.5, 18446744073709551616, "3 \" 4", {"55555555555555555555555": 1e+22}, -18446744073709551616])",
       R"({"a": [0, {"b": 99999999999999999999}, 9223372036854775808], "c": 1, "d": 99999999999999999998})"}) {
    const Json value = Json::parse(text, "x");
    EXPECT_EQ(value.dump(), text);
    EXPECT_EQ(Json::parse(value.dump(2), "x"), value);
  }
  const Json large = Json::parse("9223372036854775808", "x");
  EXPECT_TRUE(large.is_number() && large.is_long_int() && !large.is_int() && !large.is_double());
  EXPECT_NE(large, Json(9223372036854775808.0));
  EXPECT_THROW(large.as_int(), UserError);
  EXPECT_EQ(Json::parse(std::string(4300, '9'), "x").dump(), std::string(4300, '9'));
  EXPECT_THROW(Json::parse(std::string(4301, '9'), "x"), UserError);
}

TEST(Json, WrongTypeIsAUserError) {
  const Json value = Json::parse(R"({"a": "x"})", "here");
  EXPECT_THROW(value.at("a").as_int(), UserError);
  EXPECT_THROW(value.at("b"), UserError);
}

TEST(Json, FloatsAsPythonPrintsThem) {
  EXPECT_EQ(python_float_repr(1e-5), "1e-05");
  EXPECT_EQ(python_float_repr(0.0001), "0.0001");
  EXPECT_EQ(python_float_repr(2), "2.0");
  EXPECT_EQ(python_float_repr(1e16), "1e+16");
  EXPECT_EQ(python_float_repr(123456789012345680.0), "1.2345678901234568e+17");
  EXPECT_EQ(python_float_repr(-0.0), "-0.0");
}

}  // namespace
}  // namespace serval
