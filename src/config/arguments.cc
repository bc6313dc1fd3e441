#include "config/arguments.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "config/yaml.h"

namespace serval {
namespace {

constexpr const char* kCommandLine = "command line";
constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;

bool is_list(Kind kind) {
  return kind == Kind::texts || kind == Kind::integers || kind == Kind::counts || kind == Kind::names ||
         kind == Kind::datasets;
}

bool is_boolean_word(const std::string& word) {
  static const std::vector<std::string> kWords = {"true", "false", "yes", "no", "on", "off", "True", "False"};
  return std::find(kWords.begin(), kWords.end(), word) != kWords.end();
}

// A value may begin with dashes where it holds a blank ("-- said he"); else it is written --key=--value.
bool looks_like_key(const std::string& word) {
  return starts_with(word, "--") && word.find(' ') == std::string::npos;
}

// What the command line says of one key: its words in order, or that it stands there bare.
struct Given {
  std::string name;  // as written
  const Key* key;
  std::vector<std::string> words;
};

class CommandLine {
 public:
  CommandLine(const Verb& verb, std::span<const std::string> words) : verb_(verb), words_(words) {}

  void read() {
    while (next_ < words_.size()) {
      const std::string word = words_[next_++];
      if (word == "--") {
        for (; next_ < words_.size(); ++next_) add_positional(words_[next_]);
      } else if (starts_with(word, "--")) {
        read_key(word);
      } else if (word.size() > 1 && word[0] == '-') {
        fail_usage("{}: {} is no key; keys begin with '--' (see serval {} --help)", kCommandLine, shown(word),
                   verb_.name);
      } else {
        add_positional(word);
      }
    }
  }

  const std::vector<Given>& given() const { return given_; }
  const std::vector<std::string>& positionals() const { return positionals_; }

 private:
  void add_positional(const std::string& word) {
    if (static_cast<int64_t>(positionals_.size()) >= verb_.max_positionals) {
      const std::string hint = given_.empty() || !is_list(given_.back().key->kind)
                                   ? fmt::format("see serval {} --help", verb_.name)
                                   : fmt::format("a list is written --{} a,b", given_.back().name);
      fail_usage("{}: unexpected {}; {}", kCommandLine, shown(word), hint);
    }
    positionals_.push_back(word);
  }

  void read_key(const std::string& word) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = word.substr(equals + 1);

    const Key* key = verb_.table.find(name);
    if (key == nullptr && (starts_with(name, "no-") || starts_with(name, "no_")) && !value) {
      key = verb_.table.find(name.substr(3));
      if (key != nullptr && key->kind == Kind::flag) return add(name.substr(3), key, "false");
      key = nullptr;
    }
    if (key == nullptr) verb_.table.refuse(name, kCommandLine, "--");
    if (!value) value = following_value(*key, name);
    add(name, key, *value);
  }

  std::string following_value(const Key& key, const std::string& name) {
    const bool at_end = next_ >= words_.size();
    if (key.kind == Kind::flag)
      return !at_end && is_boolean_word(words_[next_]) ? words_[next_++] : std::string("true");
    if (at_end || looks_like_key(words_[next_])) {
      if (!key.implied.empty()) return key.implied;
      fail_usage("{}: --{} needs a value: {}", kCommandLine, name, accepted_text(key));
    }
    return words_[next_++];
  }

  void add(const std::string& name, const Key* key, const std::string& value) {
    for (Given& earlier : given_) {
      if (earlier.key != key) continue;
      if (!is_list(key->kind))
        fail_usage("{}: --{} is given twice ({} and {}); keep one", kCommandLine, key->name,
                   shown(earlier.words.front()), shown(value));
      earlier.words.push_back(value);
      return;
    }
    given_.push_back({name, key, {value}});
  }

  const Verb& verb_;
  std::span<const std::string> words_;
  size_t next_ = 0;
  std::vector<Given> given_;
  std::vector<std::string> positionals_;
};

RawValue raw_value(const Given& given) {
  std::vector<RawValue> items;
  for (const std::string& word : given.words) {
    items.push_back(RawValue::scalar(word, kCommandLine));
    items.back().on_command_line = true;
  }
  if (items.size() == 1) return items.front();
  RawValue list;
  list.form = RawValue::Form::list;
  list.where = kCommandLine;
  list.on_command_line = true;
  list.items = std::move(items);
  return list;
}

void assign_config(Settings& settings, std::string_view yaml, const std::string& where) {
  for (const auto& [name, value] : parse_yaml(yaml, where)) settings.assign(name, value);
}

std::vector<std::string> wrapped(std::string_view text, size_t width) {
  std::vector<std::string> lines(1);
  for (const std::string& word : split(text, ' ')) {
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width) lines.emplace_back();
    if (!lines.back().empty()) lines.back() += ' ';
    lines.back() += word;
  }
  return lines;
}

std::string dashed(const std::string& name) {
  return "--" + replace_all(name, "_", "-");
}

std::string key_help(const Key& key) {
  constexpr size_t kWidth = 100;
  std::string head = "  " + dashed(key.name);
  if (key.kind != Kind::flag)
    head += key.choices.empty() ? fmt::format(" <{}>", kind_text(key.kind))
                                : fmt::format(" <{}>", join(key.choices, "|"));
  for (const std::string& alias : key.aliases) head += ", " + dashed(alias);
  std::string text = key.meaning;
  text += key.required ? " Required." : fmt::format(" Default: {}.", default_text(key));
  std::string result = head + "\n";
  for (const std::string& line : wrapped(text, kWidth - 8)) result += "        " + line + "\n";
  return result;
}

}  // namespace

Settings parse_config(const KeyTable& table, std::string_view yaml, const std::string& where) {
  Settings settings(table);
  assign_config(settings, yaml, where);
  return settings;
}

Arguments parse_arguments(const Verb& verb, std::span<const std::string> words) {
  Arguments result{Settings(verb.table), {}, false};
  for (const std::string& word : words) {
    if (word == "--") break;
    if (word == "--help" || word == "-h") result.help = true;
  }
  if (result.help) return result;

  CommandLine line(verb, words);
  line.read();
  result.positionals = line.positionals();
  if (static_cast<int64_t>(result.positionals.size()) < verb.min_positionals)
    fail_usage("{}: {} is missing: serval {} {}", kCommandLine, verb.positional, verb.name, verb.positional);

  if (verb.reads_config && !result.positionals.empty()) {
    const std::string& path = result.positionals.front();
    assign_config(result.settings, read_file(path, kMaxConfigBytes), path);
  }
  for (const Given& given : line.given())
    result.settings.assign(given.name, raw_value(given), /*replace=*/true);
  for (const Key& key : verb.table.keys())
    if (key.required && !result.settings.has(key.name))
      fail_usage("{}: {} is missing: {}", kCommandLine, dashed(key.name), key.meaning);
  return result;
}

std::string help_text(const Verb& verb) {
  std::string text = fmt::format(
      "serval {}{}{} [--key value ...]\n\n{}\n", verb.name, verb.positional.empty() ? "" : " ",
      verb.min_positionals > 0 || verb.positional.empty() ? verb.positional : "[" + verb.positional + "]",
      verb.summary);
  if (!verb.positional_meaning.empty())
    text += fmt::format("\n  {}\n        {}\n", verb.positional, verb.positional_meaning);
  std::string section;
  for (const Key& key : verb.table.keys()) {
    if (key.section != section || &key == &verb.table.keys().front())
      text += fmt::format("\n{}:\n", key.section.empty() ? "keys" : key.section);
    section = key.section;
    text += key_help(key);
  }
  text += "\n  -h, --help\n        Print this text.\n\nexamples:\n";
  for (const std::string& example : verb.examples) text += fmt::format("  serval {}\n", example);
  return text;
}

}  // namespace serval
