#include "program/attributes.h"

#include "base/error.h"
#include "base/json.h"

namespace serval {

const AttributeValue* Attributes::find(std::string_view name) const {
  for (const auto& [key, value] : values_)
    if (key == name) return &value;
  return nullptr;
}

void Attributes::set(std::string_view name, AttributeValue value) {
  for (auto& [key, old] : values_) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  values_.emplace_back(std::string(name), std::move(value));
}

namespace {
template <class T>
const T& get(const AttributeValue* value, std::string_view name) {
  SERVAL_CHECK(value != nullptr && std::holds_alternative<T>(*value), "attribute '{}'", name);
  return std::get<T>(*value);
}
}  // namespace

int64_t Attributes::integer(std::string_view name) const {
  return get<int64_t>(find(name), name);
}
int64_t Attributes::integer_or(std::string_view name, int64_t otherwise) const {
  const auto* value = find(name);
  return value == nullptr ? otherwise : get<int64_t>(value, name);
}
double Attributes::number(std::string_view name) const {
  return get<double>(find(name), name);
}
double Attributes::number_or(std::string_view name, double otherwise) const {
  const auto* value = find(name);
  return value == nullptr ? otherwise : get<double>(value, name);
}
const std::string& Attributes::text(std::string_view name) const {
  return get<std::string>(find(name), name);
}
const std::vector<int64_t>& Attributes::integers(std::string_view name) const {
  return get<std::vector<int64_t>>(find(name), name);
}
const std::vector<double>& Attributes::numbers(std::string_view name) const {
  return get<std::vector<double>>(find(name), name);
}

std::string Attributes::to_string() const {
  std::string text;
  for (const auto& [key, value] : values_) {
    if (!text.empty()) text += ' ';
    text += key + '=';
    if (const auto* i = std::get_if<int64_t>(&value)) text += std::to_string(*i);
    if (const auto* d = std::get_if<double>(&value)) text += python_float_repr(*d);
    if (const auto* s = std::get_if<std::string>(&value)) text += *s;
    if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) {
      if (list->size() > 64) {
        text += fmt::format("({} numbers)", list->size());
        continue;
      }
      for (size_t n = 0; n < list->size(); ++n) text += (n > 0 ? "," : "") + std::to_string((*list)[n]);
    }
    if (const auto* list = std::get_if<std::vector<double>>(&value)) {
      if (list->size() > 4) {
        text += fmt::format("({} numbers)", list->size());
        continue;
      }
      for (size_t n = 0; n < list->size(); ++n) text += (n > 0 ? "," : "") + python_float_repr((*list)[n]);
    }
  }
  return text;
}

}  // namespace serval
