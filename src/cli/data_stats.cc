#include "base/log.h"
#include "cli/cli.h"
#include "cli/data.h"
#include "data/report.h"

namespace serval {

int run_data_stats(const Arguments& arguments) {
  const DataSetup setup = data_setup(arguments.settings);
  const TextTools& tools = setup.tools;
  report_findings(tools.tokenizer, model_tokens(tools, setup.directory));
  const bool as_json = arguments.settings.flag("json");
  Json reports = Json::array();
  for (const DatasetSource& source : setup.config.dataset) {
    const PreparedData data =
        prepare_dataset(source, {.tokenizer = tools.tokenizer,
                                 .chat_template = tools.chat(),
                                 .fingerprint = setup.options.fingerprint,
                                 .shape = shape_options_of(setup.options, tools.chat() != nullptr),
                                 .merge = setup.options.merge,
                                 .examples = setup.options.examples,
                                 .cache = setup.options.cache});
    log_info("dataset {}: {}", display_name(source), data.explanation);
    const DataReport report =
        report_on(data.examples, data.statistics, tools.tokenizer, setup.options.cache.directory());
    if (as_json)
      reports.push_back(report.json(display_name(source)));
    else
      print_result(report.text(display_name(source)));
  }
  if (!as_json) return 0;
  Json json = Json::object();
  json.set("datasets", std::move(reports));
  print_result(json.dump(2) + "\n");
  return 0;
}

}  // namespace serval
