// What a row of a dataset means, in one form for each kind of training, whatever columns it came in. Shapes
// (data/row_shape.h) read columns into these; tokenising (data/example.h, data/preference_example.h) and
// converting (data/convert.h) start from them.
//
//   const TrainingRow row = read_training_row(rows->row(7), shape, rows->where(7));
//   if (const auto* pair = std::get_if<PreferenceRow>(&row.body)) use(pair->chosen);
//
// Messages are spelled one way: "role" (system, user, assistant, tool, ...), "content" (text, null or a list
// of parts), "tool_calls" [{"type": "function", "function": {"name", "arguments"}}], "reasoning_content",
// "name", "tool_call_id". A number "weight" says how much a message counts in the loss, where the row says
// so.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"

namespace serval {

// In the order of TrainingRow::body.
enum class RowKind {
  text,
  prompt_completion,
  conversation,
  segments,
  tokenised,
  preference,
  unpaired,
  prompt,
  stepwise
};

// A piece of a row: text, or messages where DatasetShape::chat says so.
struct Passage {
  std::string text;
  Json::Array messages;
};

struct TextRow {
  std::string text;
};
struct PromptCompletionRow {
  Passage prompt, completion;
};
struct ConversationRow {
  Json::Array messages;
};
// Texts that are joined as they stand, each trained or not.
struct SegmentsRow {
  struct Segment {
    std::string text;
    bool trained = false;
  };
  std::vector<Segment> segments;
};
struct TokenisedRow {
  std::vector<int32_t> ids;
  std::vector<bool> trained;  // of each id
  bool has_completion_mask = false;
  std::vector<bool> completion;  // of each id, where there is a completion_mask
};
struct PreferenceRow {
  Passage prompt, chosen, rejected;
  std::optional<double> margin, chosen_score, rejected_score;
};
struct UnpairedRow {
  Passage prompt, completion;
  bool desirable = false;
};
struct PromptRow {
  Passage prompt;
};
struct StepwiseRow {
  std::string prompt;
  std::vector<std::string> steps;
  std::vector<bool> correct;  // of each step
};

struct TrainingRow {
  std::variant<TextRow, PromptCompletionRow, ConversationRow, SegmentsRow, TokenisedRow, PreferenceRow,
               UnpairedRow, PromptRow, StepwiseRow>
      body;
  // What the chat template gets beside the messages: "tools", "documents", and what chat_template_kwargs
  // holds.
  Json context = Json::object();
  // The columns that the shape did not read, for reward functions. Filled for prompts alone.
  Json extra = Json::object();

  RowKind kind() const { return static_cast<RowKind>(body.index()); }
};

// What ChatTemplate::render takes: the messages without their weights, and the context.
Json conversation_for_template(const Json::Array& messages, const Json& context);

}  // namespace serval
