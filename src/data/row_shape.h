// What the columns of a dataset mean. The shape is told from the first row and explained to the user; each
// row is then read by it, checked, and brought into the form of data/row.h.
//
//   const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
//   log_info("{}", shape.explanation);
//   const TrainingRow row = read_training_row(rows->row(7), shape, rows->where(7));
//
// The table of shapes is src/data/shapes/families.cc; docs/data.md shows a row of each. A user who knows
// better names the shape (ShapeOptions::format, also by Axolotl's and LLaMA-Factory's names) or the columns.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "data/dataset.h"
#include "data/row.h"

namespace serval {

struct ShapeFamily;  // src/data/shapes/shape_family.h

// What the rows are wanted for.
enum class RowUse {
  any,         // to look at them or to convert them
  supervised,  // SFT: text, prompts and completions, conversations, segments, token ids
  preference,  // DPO, ORPO, CPO, SimPO: a chosen and a rejected answer
  unpaired,    // KTO, BCO: an answer and whether it is wanted; pairs are split in two by the trainer
  prompts,     // GRPO, RLOO, online DPO: prompts; all other columns go to the reward functions
  stepwise     // PRM: the steps of an answer, each right or wrong
};

using ColumnNames = std::vector<std::pair<std::string, std::string>>;

struct ShapeOptions {
  std::string text_field = "text";  // another name: this column is the text, whatever else there is
  bool has_chat_template = false;
  RowUse use = RowUse::supervised;
  std::string format = "auto";  // name of a shape; UserError for an unknown one
  // What a column means -> its name in the file: {"prompt", "question"}. Also "role", "content", "training"
  // and "training_detail", the keys of a message. LLaMA-Factory's "query", "response" and "kto_tag" are
  // understood.
  ColumnNames columns{};
  bool allow_media = false;  // rows may hold images and sound, which stay in place as parts of messages
};

struct DatasetShape {
  const ShapeFamily* family = nullptr;
  RowKind kind = RowKind::text;
  bool chat = false;  // rows are messages: they go through the chat template
  RowUse use = RowUse::supervised;
  std::string text_field = "text";
  std::string role_key, content_key;  // of a message; "" where any known spelling will do
  std::string training_key,
      training_detail_key;  // of a message: Axolotl's message_field_training, ..._detail
  ColumnNames columns;      // to rename before reading
  bool allow_media = false;
  std::string explanation;  // one line for the user

  // Rows have a prompt and a completion (Alpaca rows do).
  bool has_prompt() const { return kind == RowKind::prompt_completion; }
};

DatasetShape detect_shape(const DatasetReader& rows, const ShapeOptions& options);

TrainingRow read_training_row(const Json& row, const DatasetShape& shape, const std::string& where);

// "auto", then each shape with its other names, for the documentation of dataset_format.
std::vector<std::pair<std::string, std::vector<std::string>>> dataset_shape_names();

}  // namespace serval
