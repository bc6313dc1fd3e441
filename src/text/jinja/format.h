// Python's ways of formatting: the % operator, str.format, round(), and json.dumps.
#pragma once
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace serval::jinja {

std::string format_percent(const Value& format, const Value& arguments);
// str.format; fields may look into their arguments ({0.name}, {x[key]}).
std::string format_braces(Interpreter& interpreter, std::string_view format, const Arguments& arguments);
// format(value, "spec")
std::string format_spec(const Value& value, std::string_view spec);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool pretty = false;  // a line for each item
  std::string indent;   // of one level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string dump_json(const Value& value, const JsonStyle& style);

}  // namespace serval::jinja
