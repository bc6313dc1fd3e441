// A dataset made ready to train on: found, tokenised into a file of the cache, mapped. Where the cache holds
// the same data, tokenizer, template and options already, nothing is read but their hashes.
//
//   const PreparedData data = prepare_dataset(source, {.tokenizer = tokenizer, .chat_template = &chat, ...});
//   log_info("{}", data.explanation);
//   use(data.examples);
#pragma once
#include <string>
#include <vector>

#include "data/cache.h"
#include "data/example.h"
#include "data/merge_columns.h"
#include "data/source.h"

namespace serval {

struct PrepareOptions {
  const Tokenizer& tokenizer;
  const ChatTemplate* chat_template = nullptr;
  std::string fingerprint;  // of tokenizer and template (fingerprint_of_tokenizer); "": nothing is kept
  ShapeOptions shape;
  MergeOptions merge{};
  ExampleOptions examples;
  DataCache cache;
  TokenizeProgress progress{};
};

struct PreparedData {
  Examples examples;
  RowKind kind = RowKind::text;  // documents_of(kind) documents are one row (data/group_example.h)
  DataStatistics statistics;
  std::string explanation;         // what the rows were taken for
  std::vector<std::string> notes;  // what the user should know, a line each
  int32_t largest_id = 0, smallest_id = 0;
  bool from_cache = false;
};

// What the entry itself says about its rows (type, columns, ...) before what all datasets are said to be.
ShapeOptions shape_of_source(const DatasetSource& source, ShapeOptions shape);
// The same of what is trained (roles_to_train, train_on_eos).
MaskOptions mask_of_source(const DatasetSource& source, MaskOptions mask);

PreparedData prepare_dataset(const DatasetSource& source, const PrepareOptions& options);

// A hash of all files that a tokenizer and its chat template are read from (a directory, or one file and the
// settings beside it), of the program, of a template that is used instead (its Jinja source), and of the day
// where a template shows it.
std::string fingerprint_of_tokenizer(const std::string& path, const std::string& chat_template = "");

}  // namespace serval
