// Small parts of a large JSON file: simdjson reads the file, and the sections without a vocabulary become
// Json.
//
//   Json normalizer = section(root, "normalizer", "tokenizer.json");   // null where the file has none
#pragma once
#include <simdjson.h>

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "text/tokenizer/token_table.h"

namespace serval {

// A small section as our own Json; null where the file has none.
inline Json section(const simdjson::dom::object& object, std::string_view key, const std::string& where) {
  simdjson::dom::element value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) return Json();
  return Json::parse(simdjson::minify(value), where + ": " + std::string(key));
}

// Json's accessors know only the value that is wrong; the file and the section are named here.
template <class Make>
auto in_section(const std::string& where, const Make& make) {
  try {
    return make();
  } catch (const UserError& error) {
    if (starts_with(error.what(), where)) throw;
    fail("{}: {}", where, error.what());
  }
}

inline bool flag(const Json& value, std::string_view key) {
  const Json* found = value.find(key);
  return found != nullptr && !found->is_null() && found->as_bool();
}

inline std::string text_or_empty(const Json& value, std::string_view key) {
  const Json* found = value.find(key);
  return found == nullptr || found->is_null() ? std::string() : found->as_string();
}

inline int32_t checked_id(int64_t id, std::string_view token, const std::string& where) {
  if (id < 0 || id > TokenTable::kMaxId) fail("{}: the token '{}' has the id {}", where, token, id);
  return static_cast<int32_t>(id);
}

}  // namespace serval
