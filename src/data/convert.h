// A row of any shape written in one of the few that every program reads: messages, or prompt and completion,
// chosen and rejected, ... where messages cannot say it. Reading the result gives the same TrainingRow, but
// for instructions, which become messages.
//
//   const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true, .use = RowUse::any});
//   for (int64_t i = 0; i < rows->size(); ++i)
//     write(converted_row(read_training_row(rows->row(i), shape, rows->where(i)), shape, ConvertTo::same,
//     where));
#pragma once
#include <string>

#include "data/row_shape.h"

namespace serval {

enum class ConvertTo {
  same,              // messages, prompt + completion, text, chosen + rejected, ...: what the row is
  messages,          // of pairs the chosen answer, of answers with a verdict the wanted ones
  prompt_completion  // as messages; of a conversation, its last answer is the completion
};

// An object; null where the row has no place in the result (an unwanted answer). UserError where the kind of
// row cannot be said in that form.
Json converted_row(const TrainingRow& row, const DatasetShape& shape, ConvertTo to, const std::string& where);

}  // namespace serval
