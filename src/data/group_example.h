// Rows of preference pairs, answers with a verdict, steps and prompts as documents of the same store and the
// same stream that supervised rows have. A row is a group of documents that stand side by side; numbers that
// belong to a document are its values (Examples::values), the first one always the number of its row, by
// which a trainer finds the row's other columns again.
//
//   | kind       | documents        | trained tokens          | values behind the row's number              |
//   | preference | chosen, rejected | the answer's            | margin, score (NaN where the row has none)  |
//   | unpaired   | one              | the answer's            | 1 desirable, 0 not                          |
//   | stepwise   | one              | the last of each step   | of each trained token: 1 correct, 0 not     |
//   | prompt     | one              | none                    |                                             |
//
//   const TokenizedData data = tokenize_groups(*rows, shape, tokenizer, &chat_template, {.max_length =
//   1024}); BatchStream stream(data.examples, {.batch_size = 4, .group_size = documents_of(shape.kind)});
//
// Token ids are those of TRL's DPO, KTO, PRM and GRPO (data/preference_example.h). Rows that are too long for
// any token of an answer are left out whole.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/example.h"
#include "data/row_shape.h"

namespace serval {

// Of a row: 2 of a pair, else 1.
int64_t documents_of(RowKind kind);
// Rows of this kind are groups: not what supervised training takes.
bool is_group(RowKind kind);
// For people, with a blank before it: " chosen", " undesirable", " steps 1 0"; "" of a row that is no group.
std::string description_of(RowKind kind, int64_t document, std::span<const double> values);

struct GroupDocument {
  std::vector<int32_t> ids;
  std::vector<bool> trained;
  std::vector<double> values;  // without the row's number
};
struct RowGroup {
  std::vector<GroupDocument> documents;  // empty: the row is left out
  bool boundary_mismatch = false, truncated = false;
};
RowGroup tokenize_group(const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                        const ChatTemplate* chat_template, const ExampleOptions& options);

// As tokenize_dataset() of supervised rows. Of the options max_length and truncation count; a mask option
// that is not the default is a UserError.
TokenizedData tokenize_groups(const DatasetReader& rows, const DatasetShape& shape,
                              const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                              const ExampleOptions& options, const TokenizeProgress& progress = {},
                              ExampleSink* sink = nullptr);

}  // namespace serval
