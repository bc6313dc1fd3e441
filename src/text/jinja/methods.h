// The methods of Python's str, dict, list, tuple, range and int.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace serval::jinja {

// `object.name` as a callable bound to the object, or absent. What jinja2's sandbox refuses (methods that
// change a list or a dict, Python's internals) is an undefined value that says so when used.
std::optional<Value> find_method(const Value& object, std::string_view name);
std::vector<std::string_view> method_names(const Value& object);  // of its type, for the tests

}  // namespace serval::jinja
