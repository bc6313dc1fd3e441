// Dataset files to tokenised examples, with what the user should know on stderr. Shared by training and
// evaluation.
#pragma once
#include <string>
#include <vector>

#include "data/example.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace serval {

struct DatasetReadOptions {
  std::string text_field = "text";
  ExampleOptions examples;
};

// `what` ("dataset") begins the messages. Ids outside the vocabulary and data without a trained token are
// UserErrors.
Examples read_examples(const std::vector<std::string>& paths, const DatasetReadOptions& options,
                       const Tokenizer& tokenizer, const ChatTemplate* chat_template, int64_t vocab_size,
                       const std::string& what);

}  // namespace serval
