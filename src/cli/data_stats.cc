#include "base/log.h"
#include "cli/cli.h"
#include "cli/data.h"
#include "data/report.h"

namespace serval {
namespace {

// Only what training does not take is looked at twice.
template <class Prepare>
PreparedData as_supervised_or_groups(const DatasetSource& source, const DataSetup& setup, ShapeOptions& shape,
                                     Prepare&& prepare) {
  try {
    return prepare();
  } catch (const UserError&) {
    const auto rows = open_dataset(source, setup.options.cache);
    if (!setup.options.merge.prompt.empty()) throw;
    const RowUse use = use_to_show(*rows, shape_of_source(source, shape));
    if (use == shape.use) throw;
    shape.use = use;
  }
  return prepare();
}

}  // namespace

int run_data_stats(const Arguments& arguments) {
  const DataSetup setup = data_setup(arguments.settings);
  const TextTools& tools = setup.tools;
  report_findings(tools.tokenizer, model_tokens(tools, setup.directory));
  const bool as_json = arguments.settings.flag("json");
  Json reports = Json::array();
  for (const DatasetSource& source : setup.config.dataset) {
    ShapeOptions shape = shape_options_of(setup.options, tools.chat() != nullptr);
    const auto prepare = [&] {
      return prepare_dataset(source, {.tokenizer = tools.tokenizer,
                                      .chat_template = tools.chat(),
                                      .fingerprint = setup.options.fingerprint,
                                      .shape = shape,
                                      .merge = setup.options.merge,
                                      .examples = setup.options.examples,
                                      .cache = setup.options.cache});
    };
    const PreparedData data = as_supervised_or_groups(source, setup, shape, prepare);
    log_info("dataset {}: {}", display_name(source), data.explanation);
    const DataReport report =
        report_on(data.examples, data.statistics, tools.tokenizer, setup.options.cache.directory(),
                  data.kind != RowKind::prompt && data.kind != RowKind::stepwise);
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
