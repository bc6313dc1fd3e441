// Values that several sections of a tokenizer.json share.
#pragma once
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer/characters.h"

namespace serval {

// A character of `value`, which must be exactly one.
inline std::string one_character(const Json& value, const std::string& where) {
  const std::string& text = value.as_string();
  size_t end = 0;
  if (!text.empty()) next_character(text, end);
  if (text.empty() || end != text.size()) fail("{}: expected one character, found '{}'", where, text);
  return text;
}

}  // namespace serval
