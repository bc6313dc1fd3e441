#include "data/shapes/columns.h"

#include "base/error.h"
#include "base/text.h"

namespace serval {

std::string names_of_columns(const Json& row) {
  std::vector<std::string> names;
  for (const auto& [name, value] : row.as_object()) names.push_back(name);
  return names.empty() ? "none" : join(names, ", ");
}

bool has_column(const Json& row, std::string_view column) {
  const Json* value = row.find(column);
  return value != nullptr && !value->is_null();
}

std::string first_column(const Json& row, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (has_column(row, name)) return name;
  return {};
}

const Json& column_of(const Json& row, std::string_view column, const std::string& where) {
  if (const Json* value = row.find(column)) return *value;
  fail("{}: the column '{}' is missing; found columns: {}", where, column, names_of_columns(row));
}

const std::string& text_column(const Json& row, std::string_view column, const std::string& where) {
  const Json& value = column_of(row, column, where);
  if (!value.is_string()) fail("{}: '{}' must be text but is {}", where, column, value.type_name());
  return value.as_string();
}

std::string optional_text_column(const Json& row, std::string_view column, const std::string& where) {
  return has_column(row, column) ? text_column(row, column, where) : std::string();
}

std::optional<double> optional_number_column(const Json& row, std::string_view column,
                                             const std::string& where) {
  if (!has_column(row, column)) return std::nullopt;
  const Json& value = *row.find(column);
  if (!value.is_number()) fail("{}: '{}' must be a number but is {}", where, column, value.type_name());
  return value.as_double();
}

bool flag_value(const Json& value, std::string_view column, const std::string& where) {
  if (value.is_bool()) return value.as_bool();
  if (value == Json(1) || value == Json("true") || value == Json("True") || value == Json("1")) return true;
  if (value == Json(0) || value == Json("false") || value == Json("False") || value == Json("0"))
    return false;
  fail("{}: '{}' must be true or false but is {}", where, column,
       value.is_string()   ? in_quotes(value.as_string())
       : value.is_number() ? value.dump()
                           : value.type_name());
}

const Json::Array& list_column(const Json& row, std::string_view column, const std::string& where) {
  const Json& value = column_of(row, column, where);
  if (!value.is_array()) fail("{}: '{}' must be a list but is {}", where, column, value.type_name());
  return value.as_array();
}

}  // namespace serval
