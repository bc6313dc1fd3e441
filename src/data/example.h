// From a row to tokens and to the mask of those that are trained, as TRL's SFT does it:
//  - text, and the completion of a text prompt: the end-of-text token is added where it is missing;
//  - conversations: the chat template's text, no further special tokens;
//  - prompt/completion: the loss is on the completion alone unless completion_only_loss is false;
//  - assistant_only_loss: the loss is on what the template marks with {% generation %};
//  - cut at max_length from the right; what is left without a label is dropped. Both are counted.
// One thing differs: a token that mixes text of both sides of a boundary (blanks aside) is never trained.
//
//   TokenizedData data = tokenize_dataset(*rows, shape, tokenizer, &chat_template, {.max_length = 1024});
//   log_info("{}", data.statistics.text());
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/examples.h"
#include "data/row_shape.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace serval {

struct ExampleOptions {
  int64_t max_length = 0;  // tokens; 0: no limit
  bool assistant_only_loss = false;
  std::optional<bool> completion_only_loss;  // unset: true where rows have a prompt
};

struct DataStatistics {
  int64_t rows = 0, examples = 0;  // read, kept
  int64_t tokens = 0, labels = 0;  // of the kept ones
  int64_t truncated = 0, tokens_cut = 0;
  int64_t dropped = 0;              // rows without any label
  int64_t boundary_mismatches = 0;  // rows whose prompt has other tokens alone than before its completion
  int64_t longest = 0;
  std::string text() const;  // one line
};

struct TokenizedData {
  Examples examples;
  DataStatistics statistics;
  std::vector<std::string> notes;  // what the user should know, a line each
};

using TokenizeProgress = std::function<void(int64_t rows_done, int64_t rows)>;

// `chat_template` may be null where the shape is no conversation. Rows are worked on in parallel; the result
// and the error of a wrong row (the first one) do not depend on the number of threads. With a `sink`,
// documents go there and not into the result, so that memory does not grow with the data.
TokenizedData tokenize_dataset(const DatasetReader& rows, const DatasetShape& shape,
                               const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                               const ExampleOptions& options, const TokenizeProgress& progress = {},
                               ExampleSink* sink = nullptr);

// The parts of the above. -----------------------------------------------------------------------------------

struct TokenizedRow {
  std::vector<int32_t> ids;
  std::vector<bool> trained;
  bool boundary_mismatch = false;
};

// Not yet cut to max_length.
TokenizedRow tokenize_row(const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                          const ChatTemplate* chat_template, const ExampleOptions& options);

}  // namespace serval
