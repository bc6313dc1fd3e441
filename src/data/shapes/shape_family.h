// A row of the table of shapes, and the tables of the files in this folder. To add a shape: a ShapeFamily in
// one of the files, its name in families.cc, a row in docs/data.md and in tests/data/row_shape_test.cc.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "data/row_shape.h"

namespace serval {

struct ShapeFamily {
  std::string name;                  // what dataset_format takes
  std::vector<std::string> aliases;  // what other programs call it
  std::string columns;               // for people: "messages", "prompt + completion"
  RowKind kind = RowKind::text;
  // Are these columns the family's? A family that comes first in the table wins, but two of equal `rank` that
  // both match are an error, as the user alone knows which is meant.
  int rank = 0;
  bool (*matches)(const Json& row) = nullptr;
  // Are the rows messages? `has_chat_template` decides for instructions, which can be either.
  bool (*is_chat)(const Json& row, bool has_chat_template) = nullptr;
  // What the rows are, for the explanation.
  std::string (*meaning)(const Json& row, const DatasetShape& shape) = nullptr;
  std::vector<std::string> (*used)(const Json& row, const DatasetShape& shape) = nullptr;  // columns it reads
  TrainingRow (*read)(const Json& row, const DatasetShape& shape, const std::string& where) = nullptr;
};

const std::vector<ShapeFamily>& shape_families();  // all, in the order in which they are tried

extern const ShapeFamily kTextShape, kPromptCompletionShape, kSegmentsShape, kTokenisedShape;
extern const ShapeFamily kMessagesShape;
extern const ShapeFamily kAlpacaShape, kQuestionAnswerShape, kSeedTasksShape;
extern const ShapeFamily kPreferenceShape, kRankedShape, kOpenAiPreferenceShape;
extern const ShapeFamily kUnpairedShape;
extern const ShapeFamily kPromptShape, kStepwiseShape;

}  // namespace serval
