// Datasets to tokenised examples, with what the user should know on stderr. Shared by training and
// evaluation.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "config/train_config.h"
#include "data/example.h"
#include "data/merge_columns.h"
#include "data/prepare.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace serval {

struct DatasetReadOptions {
  ShapeOptions shape;
  MergeOptions merge;  // of no effect unless it has a prompt
  ExampleOptions examples;
  DataCache cache;
  std::string fingerprint;  // of the tokenizer's files; "": nothing is kept
  std::string mix_strategy = "concat";
  uint64_t seed = 42;  // picks rows where a dataset gives a part of its rows
};

// What the keys of the section "data" ask for. The fingerprint is left to the caller, who knows the
// tokenizer.
DatasetReadOptions read_options_of(const TrainConfig& config);
ShapeOptions shape_options_of(const DatasetReadOptions& options, bool has_chat_template);

// The cache that the keys dataset_cache, dataset_cache_dir and dataset_cache_limit ask for.
DataCache data_cache(const Settings& settings);
DataCache data_cache(const TrainConfig& config);

// `what` ("dataset") begins the messages. Ids outside the vocabulary and data without a trained token are
// UserErrors. `vocab_size` 0: ids are not checked.
Examples read_examples(const std::vector<DatasetSource>& sources, const DatasetReadOptions& options,
                       const Tokenizer& tokenizer, const ChatTemplate* chat_template, int64_t vocab_size,
                       const std::string& what);

}  // namespace serval
