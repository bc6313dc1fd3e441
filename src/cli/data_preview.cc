#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/data.h"
#include "data/group_example.h"
#include "data/preview.h"

namespace serval {

int run_data_preview(const Arguments& arguments) {
  const Settings& s = arguments.settings;
  const DataSetup setup = data_setup(s);
  const TextTools& tools = setup.tools;
  const int64_t wanted = setup.config.preview > 0 ? setup.config.preview : 3;
  const bool html = s.text("format") == "html";
  const bool colour = ::isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  Examples all;
  for (const DatasetSource& source : setup.config.dataset) {
    // Only the rows to show are read.
    auto rows = open_dataset(source, setup.options.cache);
    if (!setup.options.merge.prompt.empty()) rows = merge_columns(std::move(rows), setup.options.merge);
    const int64_t first = s.integer("first_row") - 1, size = rows->size();
    if (first >= size) fail("first_row is {}, but {} has {} rows", first + 1, rows->path(), size);
    const auto shown = rows_of(std::move(rows), first, first + std::min(wanted, size - first));
    ShapeOptions wanted_shape =
        shape_of_source(source, shape_options_of(setup.options, tools.chat() != nullptr));
    wanted_shape.use = use_to_show(*shown, wanted_shape);
    const DatasetShape shape = detect_shape(*shown, wanted_shape);
    log_info("dataset {}: {}", display_name(source), shape.explanation);
    ExampleOptions examples = setup.options.examples;
    examples.mask = mask_of_source(source, examples.mask);
    const auto tokenize = is_group(shape.kind) ? tokenize_groups : tokenize_dataset;
    const TokenizedData data = tokenize(*shown, shape, tools.tokenizer, tools.chat(), examples, {}, nullptr);
    for (const std::string& note : data.notes) warn("{}", note);
    if (html) {
      all.append(data.examples);
      continue;
    }
    print_result(preview_examples(data.examples, tools.tokenizer, wanted, colour, shape.kind));
    if (!s.flag("ids")) continue;
    for (int64_t i = 0; i < data.examples.size(); ++i)
      print_result(fmt::format("--- example {}{}: ids\n{}", i / documents_of(shape.kind) + 1,
                               description_of(shape.kind, i, data.examples.values(i)),
                               preview_ids(data.examples, i, tools.tokenizer, colour)));
  }
  if (html) print_result(preview_html(all, tools.tokenizer, all.size(), "What is trained on"));
  return 0;
}

}  // namespace serval
