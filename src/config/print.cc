// The resolved configuration in its three written forms: for the terminal, for the next run, for the reader.
#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "config/train_config.h"

namespace serval {
namespace {

// A comment or a line of the terminal holds no control characters, whatever a file's name holds.
std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

// JSON is YAML, and quoting every text keeps "no" and "1e3" texts.
std::string yaml_value(const Json& value) {
  return value.is_null() ? "null" : value.dump();
}

std::string cell(const std::string& text) {
  return replace_all(one_line(text), "|", "\\|");
}

}  // namespace

std::string print_resolved(const Settings& settings) {
  constexpr size_t kValueWidth = 34;
  size_t name_width = 0;
  for (const Key& key : settings.table().keys()) name_width = std::max(name_width, key.name.size());
  std::string text;
  std::string section;
  for (const Key& key : settings.table().keys()) {
    if (key.section != section) text += fmt::format("{}:\n", key.section);
    section = key.section;
    std::string value = one_line(value_text(settings.value(key.name)));
    if (value.size() < kValueWidth) value.resize(kValueWidth, ' ');
    text += fmt::format("{} {:<{}}  {}  {}\n", settings.changed(key.name) ? '*' : ' ', key.name, name_width,
                        value, one_line(settings.source(key.name)));
  }
  return text;
}

std::string to_yaml(const Settings& settings) {
  std::string text = "# The resolved configuration of this run; it runs again as it stands.\n";
  std::string section;
  for (const Key& key : settings.table().keys()) {
    if (key.section != section) text += fmt::format("\n# {}\n", key.section);
    section = key.section;
    text += fmt::format("{}: {}  # {}\n", key.name, yaml_value(settings.value(key.name)),
                        one_line(settings.source(key.name)));
  }
  return text;
}

std::string configuration_markdown() {
  std::string text =
      "# Configuration\n\n"
      "Every key of `serval train` and `serval plan`. A key stands in the YAML file (`learning_rate: 1e-4`) "
      "or on the\n"
      "command line (`--learning-rate 1e-4`), which wins; `-` and `_` are the same. A list is `[a, b]` in "
      "the file\n"
      "and `a,b`, or the key repeated, on the command line; a map is `name=8,other=4` there. `--flag` is "
      "true and\n"
      "`--no-flag` is false; `none` unsets a key that may be unset. An unknown key, a value of the wrong "
      "type or\n"
      "range, and keys that contradict each other are errors. `serval train --dry-run` prints what every key "
      "came\n"
      "to and where it came from; the same is written to `output_dir` and can be run again.\n\n"
      "\"Name\" says whose name a key is. This page is generated from the table in "
      "`src/config/train_keys.cc`:\n"
      "`SERVAL_UPDATE_DOCS=1 config_tests` rewrites it, and a test fails where it is stale.\n";
  std::string section;
  for (const Key& key : train_table().keys()) {
    if (key.section != section)
      text += fmt::format("\n## {}\n\n| key | value | default | name | meaning |\n|---|---|---|---|---|\n",
                          key.section);
    section = key.section;
    std::string name = "`" + key.name + "`";
    for (const std::string& alias : key.aliases) name += " `" + alias + "`";
    text += fmt::format("| {} | {} | {} | {} | {} |\n", name, cell(accepted_text(key)),
                        cell(default_text(key)), key.origin, cell(key.meaning));
  }
  return text;
}

}  // namespace serval
