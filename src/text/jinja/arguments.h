// Matches the arguments of a call with a function's parameters, as Python does.
//
//   Bound b = bind("indent", arguments, {"width", "first", "blank"}, /*required=*/0);
//   int64_t width = b.integer(0, 4);
#pragma once
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace serval::jinja {

class Bound {
 public:
  explicit Bound(size_t parameters) : values_(parameters) {}
  bool has(size_t i) const { return values_[i].has_value(); }
  // The argument; `otherwise` where the call left it out.
  Value value(size_t i, const Value& otherwise = {}) const { return values_[i].value_or(otherwise); }
  int64_t integer(size_t i, int64_t otherwise) const;
  bool boolean(size_t i, bool otherwise) const;
  std::string text(size_t i, const std::string& otherwise, const char* what) const;
  void set(size_t i, Value value) { values_[i] = std::move(value); }

 private:
  std::vector<std::optional<Value>> values_;
};

using ParameterNames = std::vector<std::string_view>;

// The first `required` parameters must be given. Raises with Python's wording.
Bound bind(std::string_view function, const Arguments& arguments, const ParameterNames& parameters,
           size_t required);

// A callable made of a C++ function.
Value make_function(std::string name, Value (*function)(Interpreter&, const Arguments&));

}  // namespace serval::jinja
