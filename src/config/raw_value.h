// What a user wrote for a key, before the key says what type it must be: a scalar's text as it stands, a list
// or a map. A YAML file and the command line both give this, so that one function per type converts and
// complains.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace serval {

struct RawValue {
  enum class Form { null, scalar, list, map };
  Form form = Form::null;
  std::string text;                // scalar
  std::vector<RawValue> items;     // list; the values of a map, in the order written
  std::vector<std::string> names;  // map: names[i] goes with items[i]
  std::string where;               // "config.yaml:12" or "command line"
  bool on_command_line = false;    // there a comma separates the items of a list

  static RawValue scalar(std::string text, std::string where);
};

// `text` in double quotes for an error message: on one line, cut where long.
std::string shown(std::string_view text);
// The same for any form: "a list", "a map", "null" or the quoted text.
std::string shown(const RawValue& value);

}  // namespace serval
