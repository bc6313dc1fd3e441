// Reading single columns of a row, with errors that name the row, the column, what it is and what it must be.
#pragma once
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace serval {

std::string names_of_columns(const Json& row);  // "id, text", or "none"

bool has_column(const Json& row, std::string_view column);  // there and not null
// The first of the names that is there and not null; "" where none is.
std::string first_column(const Json& row, std::initializer_list<const char*> names);

const Json& column_of(const Json& row, std::string_view column, const std::string& where);
const std::string& text_column(const Json& row, std::string_view column, const std::string& where);
// "" where it is absent or null.
std::string optional_text_column(const Json& row, std::string_view column, const std::string& where);
std::optional<double> optional_number_column(const Json& row, std::string_view column,
                                             const std::string& where);
// true, false, 0, 1, or one of these as text.
bool flag_value(const Json& value, std::string_view column, const std::string& where);
const Json::Array& list_column(const Json& row, std::string_view column, const std::string& where);

}  // namespace serval
