// A key of a verb or of a configuration file: one row of a table says its name, type, default, range and
// meaning, and reading, checking, printing, --help and the documentation all come from that row.
//
//   const KeyTable table({{.name = "lora_r", .kind = Kind::integer, .fallback = 16, .meaning = "Rank ...",
//                          .aliases = {"lora_rank"}, .minimum = 1, .maximum = 4096}});
//   Settings settings(table);
//   settings.assign("lora-rank", RawValue::scalar("8", "config.yaml:3"));
//   settings.integer("lora_r");    // 8; settings.source("lora_r") is "config.yaml:3"
#pragma once
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "config/raw_value.h"

namespace serval {

enum class Kind {
  flag,  // true or false
  integer,
  number,
  bytes,  // an integer; "8GiB", "512 MB" are read too
  text,
  texts,     // a list of texts; one text is a list of one
  integers,  // a list of integers
  counts,    // a map from text to integer
  names,     // a map from text to text
  datasets,  // a list of paths and of maps (config/dataset_source.h)
};

struct Key {
  std::string name{};  // snake_case
  Kind kind = Kind::text;
  Json fallback{};        // null: unset unless given
  std::string meaning{};  // one sentence
  std::string section{};
  std::string origin = "Serval";  // whose name it is: TRL, PEFT, Transformers, Axolotl, Serval
  std::vector<std::string> aliases{};
  std::vector<std::string> choices{};                           // of a text; empty: any
  std::vector<std::pair<std::string, std::string>> synonyms{};  // other spellings of a choice
  double minimum = -std::numeric_limits<double>::infinity();    // inclusive
  double maximum = std::numeric_limits<double>::infinity();
  bool above_minimum = false;  // the minimum itself is not allowed
  std::string unset{};         // what an absent value means, for help ("the seed")
  std::string implied{};       // the value of a bare `--key`, for a text
  bool commas = true;          // on the command line a comma separates the items of a list
  bool required = false;

  bool optional() const { return fallback.is_null(); }
};

const char* kind_text(Kind kind);           // "integer", "list of texts"
std::string accepted_text(const Key& key);  // "an integer of at least 1", "one of linear, cosine"
std::string default_text(const Key& key);   // "16", "unset (the seed)", "required"
std::string value_text(const Json& value);  // for people: no quotes around a plain word, "-" for null
// Converts and checks; a UsageError says where, the key, what was read and what is accepted.
Json convert(const Key& key, const RawValue& raw);

class KeyTable {
 public:
  explicit KeyTable(std::vector<Key> keys);
  const std::vector<Key>& keys() const { return keys_; }
  // By name or alias, '-' and '_' alike; nullptr where unknown.
  const Key* find(std::string_view name) const;
  const Key& at(std::string_view name) const;  // a name that our own code uses
  size_t index(const Key& key) const { return static_cast<size_t>(&key - keys_.data()); }
  // Throws the UsageError for an unknown name: the nearest known one, or how to list them.
  [[noreturn]] void refuse(std::string_view name, const std::string& where,
                           std::string_view prefix = "") const;

 private:
  std::vector<Key> keys_;
  std::map<std::string, size_t, std::less<>> index_;
};

// The values of all keys of a table, each with where it came from.
class Settings {
 public:
  explicit Settings(const KeyTable& table);  // the table outlives this; values are the defaults
  const KeyTable& table() const { return *table_; }

  // A value that the user wrote. Twice is an error; for `replace`, a value from a file may be replaced by one
  // from the command line.
  void assign(std::string_view name, const RawValue& raw, bool replace = false);
  // A default that depends on other values; `why` is printed as its source.
  void derive(std::string_view name, Json value, std::string why);

  // Takes over the value of a key that another table shares, with its source.
  void copy_from(const Settings& other, std::string_view name);

  bool given(std::string_view name) const;    // written by the user
  bool changed(std::string_view name) const;  // written by the user, and not the table's default
  bool has(std::string_view name) const { return !value(name).is_null(); }
  const Json& value(std::string_view name) const;
  const std::string& source(
      std::string_view name) const;  // "default", "config.yaml:3", "command line", or why

  bool flag(std::string_view name) const { return value(name).as_bool(); }
  int64_t integer(std::string_view name) const { return value(name).as_int(); }
  int64_t integer_or(std::string_view name, int64_t other) const { return has(name) ? integer(name) : other; }
  double number(std::string_view name) const { return value(name).as_double(); }
  const std::string& text(std::string_view name) const { return value(name).as_string(); }
  std::string text_or(std::string_view name, const std::string& other) const;
  std::vector<std::string> texts(std::string_view name) const;  // empty where unset

 private:
  struct Entry {
    Json value;
    std::string source = "default";
    bool given = false;
  };
  Entry& entry(std::string_view name);
  const Entry& entry(std::string_view name) const;

  const KeyTable* table_;
  std::vector<Entry> entries_;
};

}  // namespace serval
