// What `serval data stats` tells of a tokenised dataset: sizes, lengths, how much of it is trained, and what
// is likely to be wrong with it.
//
//   const DataReport report = report_on(data.examples, data.statistics, tokenizer);
//   print(report.text("train.jsonl"));
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/example.h"

namespace serval {

struct DataReport {
  DataStatistics statistics;
  double mean_length = 0;
  int64_t shortest = 0, median = 0, p90 = 0, p99 = 0, longest = 0;
  // Examples of `from` to `to` tokens, both counted; the ranges double.
  struct Bin {
    int64_t from = 0, to = 0, examples = 0;
  };
  std::vector<Bin> histogram;
  int64_t duplicates = 0;       // examples whose tokens and mask all equal an earlier one's
  int64_t double_bos = 0;       // examples that begin with two BOS tokens
  int64_t end_not_trained = 0;  // examples in which no end-of-text token is trained
  std::vector<std::string> warnings;

  std::string text(const std::string& name) const;  // lines for people
  Json json(const std::string& name) const;
};

// One pass over the tokens. `has_answers`: an example should teach where to end (prompts and steps do not).
// The hashes of many examples lie in a file in `directory` (data/disk_vector.h).
DataReport report_on(const Examples& examples, const DataStatistics& statistics, const Tokenizer& tokenizer,
                     const std::string& directory = {}, bool has_answers = true);

}  // namespace serval
