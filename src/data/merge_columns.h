// Unsloth's to_sharegpt: rows of a table become conversations. A prompt text names columns in {braces};
// [[...]] around a part leaves it out where a column in it is empty or null.
//
//   rows = merge_columns(std::move(rows), {.prompt = "{instruction}[[\nYour input is:\n{input}]]"});
//   rows->row(0);    // {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}
//
// With a conversation_extension of n, row i is followed by n - 1 others, each from an order of the rows drawn
// at random (a pure function of the seed), so every row is used n times.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "data/dataset.h"

namespace serval {

struct MergeOptions {
  std::string prompt{};
  std::string output_column = "output";
  int64_t conversation_extension = 1;
  uint64_t seed = 42;
};

// UserError where the prompt's brackets do not match, names no column, or one that the first row lacks.
std::unique_ptr<DatasetReader> merge_columns(std::unique_ptr<DatasetReader> rows,
                                             const MergeOptions& options);

}  // namespace serval
