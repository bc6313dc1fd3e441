// The settings of one op call: few, small, printable, comparable.
//
//   Attributes a = {{"eps", 1e-6}, {"heads", int64_t{16}}};
//   double eps = a.number("eps");
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace serval {

using AttributeValue = std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>>;

class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<std::string, AttributeValue>> values) : values_(values) {}
  void set(std::string_view name, AttributeValue value);
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  // A missing attribute or one of another type is an error of the program itself, not of the user.
  int64_t integer(std::string_view name) const;
  int64_t integer_or(std::string_view name, int64_t otherwise) const;
  double number(std::string_view name) const;
  double number_or(std::string_view name, double otherwise) const;
  const std::string& text(std::string_view name) const;
  const std::vector<int64_t>& integers(std::string_view name) const;
  const std::vector<double>& numbers(std::string_view name) const;
  std::string to_string() const;  // "eps=1e-06 heads=16"
  friend bool operator==(const Attributes&, const Attributes&) = default;

 private:
  const AttributeValue* find(std::string_view name) const;
  std::vector<std::pair<std::string, AttributeValue>> values_;
};

}  // namespace serval
