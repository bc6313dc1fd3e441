// What the columns of a dataset mean. The shape is told from the first row and explained to the user; each
// row is then read by it and checked.
//
//   const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
//   log_info("{}", shape.explanation);
//   const TrainingRow row = read_training_row(rows->row(7), shape, rows->where(7));
//
// Shapes:  messages                             a conversation
//          prompt, completion                   two texts, or two lists of messages
//          instruction, [input], output, [system]   Alpaca: messages where there is a chat template, else the
//                                               prompt text that the Alpaca model was trained on
//          text                                 plain text
#pragma once
#include <cstdint>
#include <string>

#include "base/json.h"
#include "data/dataset.h"

namespace serval {

enum class RowShape { messages, prompt_completion, alpaca, text };

struct ShapeOptions {
  std::string text_field = "text";  // another name: this column is the text, whatever else there is
  bool has_chat_template = false;
};

struct DatasetShape {
  RowShape shape = RowShape::text;
  bool chat = false;  // rows are conversations: they go through the chat template
  std::string text_field = "text";
  std::string explanation;  // one line for the user
  // Rows have a prompt and a completion (Alpaca rows do).
  bool has_prompt() const { return shape == RowShape::prompt_completion || shape == RowShape::alpaca; }
};

DatasetShape detect_shape(const DatasetReader& rows, const ShapeOptions& options);

// One row before tokenising: a conversation, or a text.
struct TrainingRow {
  // What the chat template is given: "messages" (those of the prompt, then those of the completion), "tools",
  // and what chat_template_kwargs holds. Null where the row is text.
  Json conversation;
  int64_t prompt_messages = 0;     // how many of the messages are the prompt
  std::string prompt, completion;  // of a text row; prompt is "" for plain text
};

TrainingRow read_training_row(const Json& row, const DatasetShape& shape, const std::string& where);

}  // namespace serval
