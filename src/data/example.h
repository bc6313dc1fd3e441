// From a row to tokens and to the mask of those that are trained, as TRL's SFT does it:
//  - text, and the completion of a text prompt: the end-of-text token is added where it is missing;
//  - conversations: the chat template's text, no further special tokens;
//  - prompt/completion: the loss is on the completion alone unless completion_only_loss is false;
//  - assistant_only_loss and the other masks (data/train_mask.h) leave out more;
//  - cut at max_length; what is left without a label is dropped. Both are counted.
// Two things differ: a token that mixes text of both sides of a boundary (blanks aside) is never trained, and
// a text never begins with two BOS tokens.
//
//   TokenizedData data = tokenize_dataset(*rows, shape, tokenizer, &chat_template, {.max_length = 1024});
//   log_info("{}", data.statistics.text());
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/examples.h"
#include "data/row_pipeline.h"
#include "data/row_shape.h"
#include "data/train_mask.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace serval {

// What becomes of a row of more than max_length tokens.
enum class Truncation {
  keep_start,
  keep_end,
  drop,   // it is left out
  refuse  // it is an error
};
Truncation truncation_from_name(const std::string& name);  // "keep_start", ..., "error"

// Documents that go on where max_length ends, instead of being truncated (data/packing.h).
enum class Pieces { whole, split, wrapped };

struct ExampleOptions {
  int64_t max_length = 0;  // tokens; 0: no limit
  Truncation truncation = Truncation::keep_start;
  Pieces pieces = Pieces::whole;  // not whole: pieces of max_length tokens
  MaskOptions mask{};
};

struct DataStatistics {
  int64_t rows = 0, examples = 0;  // read, kept
  int64_t tokens = 0, labels = 0;  // of the kept ones
  int64_t truncated = 0, tokens_cut = 0;
  int64_t over_long = 0;            // rows left out for their length
  int64_t dropped = 0;              // rows without any label
  int64_t double_bos = 0;           // rows of which a second BOS token was taken away
  int64_t boundary_mismatches = 0;  // rows whose prompt has other tokens alone than before its completion
  int64_t longest = 0;
  std::string text() const;  // one line
};

struct TokenizedData {
  Examples examples;
  DataStatistics statistics;
  std::vector<std::string> notes;  // what the user should know, a line each
};

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
  std::vector<float> weights;  // of trained ids; empty: all count alike
  bool boundary_mismatch = false, double_bos = false;
};

// Not yet cut to max_length. The row is one that supervised training takes.
TokenizedRow tokenize_row(const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                          const ChatTemplate* chat_template, const MaskOptions& options);

// `text` with the tokenizer's end-of-text token, unless it ends with it.
std::string with_end_of_text(std::string text, const Tokenizer& tokenizer);
// Takes away the first of two BOS tokens that a text begins with; true where it did.
bool remove_double_bos(std::vector<int32_t>& ids, const Tokenizer& tokenizer);

}  // namespace serval
