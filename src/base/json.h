// A JSON value: ordered objects, integers kept apart from floating-point numbers. One beyond 64 bits keeps
// its digits; as_double() gives the nearest number. Parsing is strict
// (UTF-8, no duplicate keys, nesting at most 128) and done by simdjson; a failure is a UserError that names
// `where`. For files of many megabytes (a tokenizer's vocabulary) use simdjson directly.
//
//   Json config = Json::parse(read_file(path), path);
//   int64_t hidden_size = config.at("hidden_size").as_int();
//   const Json* scaling = config.find("rope_scaling");   // nullptr where absent
//   write_file_atomically(path, config.dump(2));
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace serval {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  Json(int value) : value_(static_cast<int64_t>(value)) {}
  Json(int64_t value) : value_(value) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}
  static Json array() { return Json(Array{}); }
  static Json object() { return Json(Object{}); }

  // An integer beyond 64 bits: its digits after an optional '-', at most 4300 of them.
  static Json long_int(std::string digits) { return Json(LongInt{std::move(digits)}); }

  // Throws UserError "<where>: not valid JSON: ...".
  static Json parse(std::string_view text, const std::string& where);

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_double() const { return std::holds_alternative<double>(value_); }
  bool is_long_int() const { return std::holds_alternative<LongInt>(value_); }
  bool is_number() const { return is_int() || is_double() || is_long_int(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  // "null", "boolean", "integer", "number", "string", "array", "object", "integer beyond 64 bits"
  const char* type_name() const;

  // Each throws UserError when the value is of another type; as_double accepts an integer.
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;
  const std::string& long_int_digits() const;
  const std::string& as_string() const;
  const Array& as_array() const;
  const Object& as_object() const;
  Array& as_array();
  Object& as_object();

  // Object access. at() throws a UserError that names the key; find() gives nullptr for an absent key.
  const Json& at(std::string_view key) const;
  const Json* find(std::string_view key) const;
  Json* find(std::string_view key);
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  Json& set(std::string_view key, Json value);  // replaces or appends; null becomes an object first
  bool erase(std::string_view key);
  void push_back(Json value);  // null becomes an array first
  size_t size() const;         // elements of an array or members of an object, else 0

  // indent < 0: one line with ", " and ": " as Python's json.dumps; else as json.dumps(indent=indent).
  // Non-ASCII text is kept; floats are printed as Python's repr.
  std::string dump(int indent = -1) const;
  friend bool operator==(const Json&, const Json&) = default;

 private:
  struct LongInt {
    std::string digits;
    friend bool operator==(const LongInt&, const LongInt&) = default;
  };
  explicit Json(LongInt value) : value_(std::move(value)) {}
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object, LongInt> value_;
};

// Shortest text that reads back as the same double, in Python's notation ("1e-05", "0.1", "2.0", "inf").
std::string python_float_repr(double value);
// `text` in double quotes, escaped as json.dumps(ensure_ascii=False) does.
std::string json_quote(std::string_view text);

}  // namespace serval
