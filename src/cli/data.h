// serval data SUBVERB: looks at datasets and rewrites them; no model is needed. Each sub-verb is a verb of
// its own with its keys, one line in the table of data.cc.
#pragma once
#include <span>
#include <string>

#include "config/arguments.h"
#include "train/read_examples.h"
#include "train/text_tools.h"

namespace serval {

// `words`: argv after "data".
int run_data(std::span<const std::string> words);

int run_data_preview(const Arguments& arguments);
int run_data_stats(const Arguments& arguments);
int run_data_convert(const Arguments& arguments);

// The configuration of a training run of which only the data matters: a tokenizer is enough in place of a
// model.
struct DataSetup {
  TrainConfig config;
  TextTools tools;
  std::string directory;  // of the model, or of the tokenizer alone
  DatasetReadOptions options;
};
DataSetup data_setup(const Settings& settings);

// What to look at the rows as: supervised training where it takes them, else pairs, verdicts, steps or
// prompts. The UserError of detect_shape() where they are neither.
RowUse use_to_show(const DatasetReader& rows, const ShapeOptions& options);

}  // namespace serval
