// The command line of a verb: a key table, positional arguments and examples give parsing, errors and --help.
//   --key value   --key=value   --flag   --no-flag   --list a,b --list c   '-' and '_' alike, '--' ends the
//   keys
//
//   const Arguments arguments = parse_arguments(generate_verb(), words);    // words: argv after the verb
//   if (arguments.help) return print(help_text(generate_verb(), program));
//   const int64_t limit = arguments.settings.integer("max_new_tokens");
#pragma once
#include <span>
#include <string>
#include <vector>

#include "config/keys.h"

namespace serval {

struct Verb {
  std::string name{};
  std::string summary{};     // one sentence
  std::string positional{};  // how help shows it ("FILE|DIR"), "" where none is taken
  std::string positional_meaning{};
  int64_t min_positionals = 0, max_positionals = 0;
  bool reads_config = false;            // the positional is a configuration file; its keys join the settings
  std::vector<std::string> examples{};  // without the program's name
  KeyTable table;
};

struct Arguments {
  Settings settings;
  std::vector<std::string> positionals;
  bool help = false;  // -h or --help was given; nothing else was checked then
};

// Reads the configuration file too where the verb has one; the command line replaces its values. The verb
// outlives the result.
Arguments parse_arguments(const Verb& verb, std::span<const std::string> words);
// The same for a configuration's text alone.
Settings parse_config(const KeyTable& table, std::string_view yaml, const std::string& where);

std::string help_text(const Verb& verb);

}  // namespace serval
