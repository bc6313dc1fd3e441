#include "config/keys.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "config/dataset_source.h"
#include "config/yaml.h"

namespace serval {
namespace {

std::string normalised(std::string_view name) {
  return replace_all(std::string(name), "-", "_");
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::optional<double> parse_number(std::string_view text) {
  if (starts_with(text, "+")) text.remove_prefix(1);
  // from_chars would take a second sign, and "inf" and "nan" are never meant here.
  if (text.empty() || text.find_first_not_of("0123456789.eE+-") != std::string_view::npos) return {};
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return {};
  return value;
}

std::optional<int64_t> parse_integer(std::string_view text) {
  std::string_view digits = text;
  if (starts_with(digits, "+")) digits.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc() && end == digits.data() + digits.size() && !digits.empty()) return value;
  // "1e3" and "100.0" are integers too, where a double holds them exactly.
  const auto number = parse_number(text);
  if (!number || std::floor(*number) != *number || std::abs(*number) > 9007199254740992.0) return {};
  return static_cast<int64_t>(*number);
}

std::optional<bool> parse_flag(std::string_view text) {
  const std::string word = lower(text);
  if (word == "true" || word == "yes" || word == "on" || word == "1") return true;
  if (word == "false" || word == "no" || word == "off" || word == "0") return false;
  return {};
}

std::optional<int64_t> parse_bytes(std::string_view text) {
  const size_t unit_at = std::min(text.find_first_not_of("0123456789.eE+"), text.size());
  const auto count = parse_number(trim(text.substr(0, unit_at)));
  const std::string unit = lower(trim(text.substr(unit_at)));
  if (!count) return {};
  constexpr std::string_view kLetters = "kmgt";
  double scale = 1;
  if (!unit.empty() && unit != "b") {
    const size_t power = kLetters.find(unit[0]);
    const std::string_view rest = std::string_view(unit).substr(1);
    if (power == std::string_view::npos || (rest != "" && rest != "b" && rest != "ib")) return {};
    scale = std::pow(rest == "b" ? 1000.0 : 1024.0, static_cast<double>(power + 1));
  }
  if (*count * scale > 9007199254740992.0) return {};
  return static_cast<int64_t>(*count * scale);
}

[[noreturn]] void refuse_value(const Key& key, const RawValue& raw) {
  std::string advice;
  if (!key.choices.empty() && raw.form == RawValue::Form::scalar) {
    const std::string near = nearest_name(raw.text, key.choices);
    if (!near.empty()) advice = fmt::format(" (did you mean '{}'?)", near);
  }
  fail_usage("{}: {} is {}, expected {}{}", raw.where, key.name, shown(raw), accepted_text(key), advice);
}

bool in_range(const Key& key, double value) {
  return (key.above_minimum ? value > key.minimum : value >= key.minimum) && value <= key.maximum;
}

Json convert_choice(const Key& key, const RawValue& raw) {
  for (const auto& [spelling, meant] : key.synonyms)
    if (raw.text == spelling) return meant;
  if (!key.choices.empty() &&
      std::find(key.choices.begin(), key.choices.end(), raw.text) == key.choices.end())
    refuse_value(key, raw);
  return raw.text;
}

Json convert_scalar(const Key& key, const RawValue& raw) {
  if (raw.form != RawValue::Form::scalar) refuse_value(key, raw);
  switch (key.kind) {
    case Kind::flag: {
      const auto value = parse_flag(raw.text);
      if (!value) refuse_value(key, raw);
      return *value;
    }
    case Kind::integer:
    case Kind::integers:
    case Kind::counts:
    case Kind::bytes: {
      const auto value = key.kind == Kind::bytes ? parse_bytes(raw.text) : parse_integer(raw.text);
      if (!value || !in_range(key, static_cast<double>(*value))) refuse_value(key, raw);
      return *value;
    }
    case Kind::number: {
      const auto value = parse_number(raw.text);
      if (!value || !in_range(key, *value)) refuse_value(key, raw);
      return *value;
    }
    case Kind::text:
    case Kind::texts:
    case Kind::names:
    case Kind::datasets:
      break;
  }
  return convert_choice(key, raw);
}

// On the command line "q_proj,v_proj" is two items, but a regular expression keeps its commas.
std::vector<RawValue> items_of(const Key& key, const RawValue& raw) {
  if (raw.form == RawValue::Form::list) {
    std::vector<RawValue> items;
    for (const RawValue& item : raw.items)
      for (RawValue& part : items_of(key, item)) items.push_back(std::move(part));
    return items;
  }
  const bool splits = key.commas && raw.on_command_line && raw.form == RawValue::Form::scalar &&
                      raw.text.find_first_of("([{\\") == std::string::npos;
  if (!splits) return {raw};
  std::vector<RawValue> items;
  for (const std::string& part : split(raw.text, ','))
    if (const auto word = trim(part); !word.empty())
      items.push_back(RawValue::scalar(std::string(word), raw.where));
  return items;
}

Json convert_list(const Key& key, const RawValue& raw) {
  if (raw.form == RawValue::Form::map) refuse_value(key, raw);
  if (raw.form == RawValue::Form::list)
    for (const RawValue& item : raw.items)
      if (item.form != RawValue::Form::scalar) refuse_value(key, item);
  Json list = Json::array();
  for (const RawValue& item : items_of(key, raw)) list.push_back(convert_scalar(key, item));
  return list;
}

// A map of a file, or "name=1,other=2" of the command line.
Json convert_map(const Key& key, const RawValue& raw) {
  Json map = Json::object();
  const auto add = [&](const std::string& name, const RawValue& value) {
    if (name.empty()) refuse_value(key, raw);
    if (map.contains(name)) fail_usage("{}: {} gives {} twice", raw.where, key.name, shown(name));
    map.set(name, convert_scalar(key, value));
  };
  if (raw.form == RawValue::Form::map) {
    for (size_t i = 0; i < raw.items.size(); ++i) add(raw.names[i], raw.items[i]);
    return map;
  }
  if (!raw.on_command_line) refuse_value(key, raw);
  for (const RawValue& item : items_of(key, raw)) {
    const size_t equals = item.text.rfind('=');
    if (equals == std::string::npos) refuse_value(key, raw);
    add(item.text.substr(0, equals), RawValue::scalar(item.text.substr(equals + 1), raw.where));
  }
  return map;
}

// One entry: a path, or a map of the keys of dataset_table(). A map on the command line is written as in
// YAML.
Json convert_dataset(const Key& key, const RawValue& raw) {
  if (raw.form == RawValue::Form::scalar && raw.on_command_line && starts_with(trim(raw.text), "{")) {
    const auto members = parse_yaml("entry: " + raw.text, raw.where);
    return convert_dataset(key, members.at(0).second);
  }
  if (raw.form != RawValue::Form::map) return convert_scalar(key, raw);
  Settings settings(dataset_table());
  for (size_t i = 0; i < raw.names.size(); ++i) settings.assign(raw.names[i], raw.items[i]);
  Json entry = Json::object();
  for (const Key& known : dataset_table().keys())
    if (settings.given(known.name) && settings.has(known.name))
      entry.set(known.name, settings.value(known.name));
  if (!entry.contains("path")) fail_usage("{}: an entry of {} has no path", raw.where, key.name);
  return entry;
}

Json convert_datasets(const Key& key, const RawValue& raw) {
  Json list = Json::array();
  if (raw.form == RawValue::Form::map) {
    list.push_back(convert_dataset(key, raw));
  } else {
    for (const RawValue& item : raw.items)
      if (item.form == RawValue::Form::list || item.form == RawValue::Form::null) refuse_value(key, item);
    for (const RawValue& item : items_of(key, raw)) list.push_back(convert_dataset(key, item));
  }
  return list;
}

}  // namespace

const char* kind_text(Kind kind) {
  switch (kind) {
    case Kind::flag:
      return "true or false";
    case Kind::integer:
      return "integer";
    case Kind::number:
      return "number";
    case Kind::bytes:
      return "size in bytes";
    case Kind::text:
      return "text";
    case Kind::texts:
      return "list of texts";
    case Kind::integers:
      return "list of integers";
    case Kind::counts:
      return "map from text to integer";
    case Kind::names:
      return "map from text to text";
    case Kind::datasets:
      return "list of datasets";
  }
  return "";
}

std::string accepted_text(const Key& key) {
  if (!key.choices.empty()) {
    std::vector<std::string> others;
    for (const auto& [spelling, meant] : key.synonyms) others.push_back(spelling);
    return (key.choices.size() > 1 ? "one of " : "") + join(key.choices, ", ") +
           (others.empty() ? "" : " (also written " + join(others, ", ") + ")");
  }
  std::string text;
  switch (key.kind) {
    case Kind::flag:
      return "true or false";
    case Kind::integer:
      text = "an integer";
      break;
    case Kind::number:
      text = "a number";
      break;
    case Kind::bytes:
      text = "a size such as 8GiB or a number of bytes";
      break;
    case Kind::text:
      return "a text";
    case Kind::texts:
      return "a text or a list of texts";
    case Kind::integers:
      text = "a list of integers";
      break;
    case Kind::datasets:
      return "a path, a map with a path, or a list of them";
    case Kind::counts:
      text = "a map from names to integers (name=8 on the command line)";
      break;
    case Kind::names:
      return "a map from names to names (name=other on the command line)";
  }
  const bool low = std::isfinite(key.minimum), high = std::isfinite(key.maximum);
  if (low && key.above_minimum) text += fmt::format(" above {}", key.minimum);
  if (low && !key.above_minimum && high) text += fmt::format(" from {}", key.minimum);
  if (low && !key.above_minimum && !high) text += fmt::format(" of at least {}", key.minimum);
  if (high)
    text += fmt::format("{} {}",
                        low && !key.above_minimum ? " to"
                        : low                     ? " and at most"
                                                  : " of at most",
                        key.maximum);
  return text;
}

std::string value_text(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.as_string().empty() ? "\"\"" : value.as_string();
  if (value.is_array()) {
    std::vector<std::string> parts;
    for (const Json& item : value.as_array()) parts.push_back(value_text(item));
    return parts.empty() ? "[]" : join(parts, ", ");
  }
  if (value.is_object()) {
    std::vector<std::string> parts;
    for (const auto& [name, item] : value.as_object()) parts.push_back(name + "=" + value_text(item));
    return parts.empty() ? "{}" : join(parts, ", ");
  }
  return value.dump();
}

std::string default_text(const Key& key) {
  if (key.required) return "required";
  if (!key.optional()) return value_text(key.fallback);
  return key.unset.empty() ? "unset" : key.unset;
}

Json convert(const Key& key, const RawValue& raw) {
  const bool is_choice = std::find(key.choices.begin(), key.choices.end(), raw.text) != key.choices.end();
  const bool says_none =
      raw.form == RawValue::Form::scalar && !is_choice && (raw.text == "none" || raw.text == "null");
  if (key.optional() && !key.required && (raw.form == RawValue::Form::null || says_none)) return nullptr;
  switch (key.kind) {
    case Kind::texts:
    case Kind::integers:
      return convert_list(key, raw);
    case Kind::counts:
    case Kind::names:
      return convert_map(key, raw);
    case Kind::datasets:
      return convert_datasets(key, raw);
    default:
      return convert_scalar(key, raw);
  }
}

KeyTable::KeyTable(std::vector<Key> keys) : keys_(std::move(keys)) {
  const auto add = [this](const std::string& name, size_t i) {
    SERVAL_CHECK(index_.emplace(name, i).second, "key '{}' stands twice in its table", name);
  };
  for (size_t i = 0; i < keys_.size(); ++i) {
    // A table may say 1 where 1.0 is meant; values of one type compare equal.
    if (keys_[i].kind == Kind::number && keys_[i].fallback.is_int()) {
      const double number = keys_[i].fallback.as_double();
      keys_[i].fallback = number;
    }
    add(keys_[i].name, i);
    for (const std::string& alias : keys_[i].aliases) add(alias, i);
  }
}

const Key* KeyTable::find(std::string_view name) const {
  const auto found = index_.find(normalised(name));
  return found == index_.end() ? nullptr : &keys_[found->second];
}

const Key& KeyTable::at(std::string_view name) const {
  const Key* key = find(name);
  SERVAL_CHECK(key != nullptr, "no key '{}' in this table", name);
  return *key;
}

void KeyTable::refuse(std::string_view name, const std::string& where, std::string_view prefix) const {
  std::vector<std::string> names;
  for (const auto& [known, unused] : index_) names.push_back(known);
  const std::string near = nearest_name(normalised(name), names);
  const std::string what = shown(std::string(prefix) + std::string(name));
  if (near.empty()) fail_usage("{}: unknown key {}; --help lists the known ones", where, what);
  fail_usage("{}: unknown key {}, did you mean '{}{}'?", where, what, prefix, near);
}

Settings::Settings(const KeyTable& table) : table_(&table), entries_(table.keys().size()) {
  for (size_t i = 0; i < entries_.size(); ++i) entries_[i].value = table.keys()[i].fallback;
}

Settings::Entry& Settings::entry(std::string_view name) {
  return entries_[table_->index(table_->at(name))];
}
const Settings::Entry& Settings::entry(std::string_view name) const {
  return entries_[table_->index(table_->at(name))];
}

void Settings::assign(std::string_view name, const RawValue& raw, bool replace) {
  const Key* key = table_->find(name);
  if (key == nullptr) table_->refuse(name, raw.where);
  Entry& target = entry(key->name);
  if (target.given && !replace)
    fail_usage("{}: {} is given twice (first at {}; as {} here); keep one", raw.where, key->name,
               target.source, shown(name));
  target.value = convert(*key, raw);
  target.source = raw.where;
  target.given = true;
}

void Settings::derive(std::string_view name, Json value, std::string why) {
  Entry& target = entry(name);
  target.value = std::move(value);
  target.source = std::move(why);
}

void Settings::copy_from(const Settings& other, std::string_view name) {
  entry(name) = other.entry(name);
}

bool Settings::given(std::string_view name) const {
  return entry(name).given;
}
bool Settings::changed(std::string_view name) const {
  return given(name) && value(name) != table_->at(name).fallback;
}
const Json& Settings::value(std::string_view name) const {
  return entry(name).value;
}
const std::string& Settings::source(std::string_view name) const {
  return entry(name).source;
}

std::string Settings::text_or(std::string_view name, const std::string& other) const {
  return has(name) ? text(name) : other;
}

std::vector<std::string> Settings::texts(std::string_view name) const {
  std::vector<std::string> result;
  if (!has(name)) return result;
  for (const Json& item : value(name).as_array()) result.push_back(item.as_string());
  return result;
}

}  // namespace serval
