#include <cstdio>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/data.h"
#include "data/convert.h"

namespace serval {
namespace {

ConvertTo target_of(const std::string& name) {
  return name == "messages"            ? ConvertTo::messages
         : name == "prompt_completion" ? ConvertTo::prompt_completion
                                       : ConvertTo::same;
}

}  // namespace

int run_data_convert(const Arguments& arguments) {
  constexpr size_t kFlushBytes = 1 << 20;
  constexpr int64_t kForgetRows = 4096;
  const Settings& s = arguments.settings;
  const ConvertTo to = target_of(s.text("to"));
  const DatasetReadOptions read = read_options_of(partial_config(s));
  ShapeOptions options = shape_options_of(read, true);  // instructions become messages
  options.use = RowUse::any;
  options.allow_media = true;
  std::optional<AtomicFile> file;
  std::string text;
  const auto flush = [&] {
    if (file)
      file->write(text);
    else
      print_result(text);
    text.clear();
  };
  int64_t written = 0, left_out = 0;
  for (const std::string& path : arguments.positionals) {
    auto rows = open_dataset(path);
    if (!read.merge.prompt.empty()) rows = merge_columns(std::move(rows), read.merge);
    const DatasetShape shape = detect_shape(*rows, options);
    log_info("{}", shape.explanation);
    // An input that is no dataset leaves no file behind.
    if (!file && !s.text_or("output", "").empty()) file.emplace(s.text("output"));
    for (int64_t i = 0, done = 0; i < rows->size(); ++i) {
      if (i - done == kForgetRows) {
        rows->forget(done, i);
        done = i;
      }
      const std::string where = rows->where(i);
      const Json row = converted_row(read_training_row(rows->row(i), shape, where), shape, to, where);
      if (row.is_null()) {
        ++left_out;
        continue;
      }
      ++written;
      text += row.dump() + "\n";
      if (text.size() >= kFlushBytes) flush();
    }
  }
  flush();
  if (file) file->commit();
  log_info("{} rows written{}", written,
           left_out > 0 ? fmt::format(", {} unwanted answers left out", left_out) : std::string());
  return 0;
}

}  // namespace serval
