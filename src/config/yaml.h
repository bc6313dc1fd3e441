// Reads the YAML of a configuration file: one document, a map at the top. Values keep their text, so that a
// key decides the type ("1e-4" is a number where a number is due, "no" a name where a name is due). Refused,
// each with file and line: more than 1 MiB, nesting beyond 8, more than 20000 values, duplicate keys,
// anchors, aliases and tags. JSON is YAML, so a .json file reads too.
//
//   for (const auto& [name, value] : parse_yaml(read_file(path), path)) ...
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/raw_value.h"

namespace serval {

std::vector<std::pair<std::string, RawValue>> parse_yaml(std::string_view text, const std::string& where);

}  // namespace serval
