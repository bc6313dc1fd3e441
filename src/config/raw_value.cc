#include "config/raw_value.h"

namespace serval {

RawValue RawValue::scalar(std::string text, std::string where) {
  RawValue value;
  value.form = Form::scalar;
  value.text = std::move(text);
  value.where = std::move(where);
  return value;
}

std::string shown(std::string_view text) {
  constexpr size_t kLongest = 80;
  std::string safe(text.substr(0, kLongest));
  for (char& c : safe)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return "'" + safe + (text.size() > kLongest ? "...'" : "'");
}

std::string shown(const RawValue& value) {
  switch (value.form) {
    case RawValue::Form::null:
      return "nothing";
    case RawValue::Form::list:
      return "a list";
    case RawValue::Form::map:
      return "a map";
    case RawValue::Form::scalar:
      break;
  }
  return shown(value.text);
}

}  // namespace serval
