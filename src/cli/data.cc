#include "cli/data.h"

#include <cstdio>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/cli.h"
#include "config/verbs.h"
#include "data/group_example.h"
#include "formats/model_source.h"

namespace serval {
namespace {

struct SubVerb {
  const Verb& (*verb)();
  int (*run)(const Arguments&);
};

constexpr SubVerb kSubVerbs[] = {{data_preview_verb, run_data_preview},
                                 {data_stats_verb, run_data_stats},
                                 {data_convert_verb, run_data_convert}};

std::string overview() {
  std::string text = "serval data: look at datasets and rewrite them\n\nusage: serval data VERB [...]\n\n";
  for (const SubVerb& sub : kSubVerbs)
    text += fmt::format("  {:<10} {}\n", sub.verb().name.substr(5), sub.verb().summary);
  return text + "\nserval data VERB --help explains a verb.\n";
}

}  // namespace

int run_data(std::span<const std::string> words) {
  if (words.empty()) {
    std::fputs(overview().c_str(), stderr);
    return 2;
  }
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_result(overview());
    return 0;
  }
  std::vector<std::string> names;
  for (const SubVerb& sub : kSubVerbs) {
    names.push_back(sub.verb().name.substr(5));  // without "data "
    if (names.back() != words[0]) continue;
    const Arguments arguments = parse_arguments(sub.verb(), words.subspan(1));
    if (arguments.help) {
      print_result(help_text(sub.verb()));
      return 0;
    }
    return sub.run(arguments);
  }
  const std::string nearest = nearest_name(words[0], names);
  fail_usage("'{}' is no verb of serval data{}; see serval data --help", words[0],
             nearest.empty() ? "" : ", did you mean '" + nearest + "'?");
}

DataSetup data_setup(const Settings& given) {
  Settings settings(train_table());
  for (const Key& key : train_table().keys())
    if (given.given(key.name)) settings.copy_from(given, key.name);
  const std::string tokenizer = settings.text_or("tokenizer_name_or_path", "");
  const std::string init = settings.text_or("init", "");
  std::string model = settings.text_or("model_name_or_path", "");
  if (model.empty() && init.empty()) {
    if (tokenizer.empty())
      fail_usage("tokenizer_name_or_path is missing: give --tokenizer DIRECTORY, or --model");
    settings.derive("model_name_or_path", tokenizer, "tokenizer_name_or_path");
    model = tokenizer;
  }
  TrainConfig config = resolve_train(settings).config;
  if (config.num_threads > 0) set_num_threads(static_cast<int>(config.num_threads));
  std::string directory = !tokenizer.empty() ? resolve_model(tokenizer)
                          : !model.empty()   ? resolve_model(model)
                          : directory_exists(init)
                              ? init
                              : init.substr(0, std::max<size_t>(init.rfind('/') + 1, 1) - 1);
  if (directory.empty()) directory = ".";
  DataSetup setup{config,
                  open_text_tools({.tokenizer = directory,
                                   .chat_template = config.chat_template,
                                   .adapter = config.adapter_name_or_path,
                                   .changes = tokenizer_changes(config)}),
                  model.empty() ? directory : resolve_model(model), read_options_of(config)};
  setup.options.fingerprint = setup.tools.fingerprint;
  return setup;
}

RowUse use_to_show(const DatasetReader& rows, const ShapeOptions& options) {
  try {
    detect_shape(rows, options);
    return options.use;
  } catch (const UserError& refused) {
    ShapeOptions any = options;
    any.use = RowUse::any;
    if (is_group(detect_shape(rows, any).kind)) return RowUse::any;
    throw;
  }
}

}  // namespace serval
