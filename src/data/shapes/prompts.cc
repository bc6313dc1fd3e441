// Prompts that the model itself will answer, with whatever else a reward function wants to see; and answers
// in steps.
#include <algorithm>

#include "base/error.h"
#include "data/shapes/columns.h"
#include "data/shapes/instructions.h"
#include "data/shapes/messages.h"
#include "data/shapes/shape_family.h"

namespace serval {
namespace {

std::string prompt_column(const Json& row) {
  const std::string found =
      first_column(row, {"prompt", "messages", "conversations", "question", "instruction", "problem"});
  return found.empty() ? "prompt" : found;
}

// What a prompt of this column reads beside it.
std::vector<std::string> prompt_columns(const Json& row, bool chat) {
  const std::string prompt = prompt_column(row);
  std::vector<std::string> used = {prompt};
  if (chat) {
    used.insert(used.end(), {"system", "system_prompt"});
    used.insert(used.end(), std::begin(kContextColumns), std::end(kContextColumns));
  }
  if (prompt == "instruction") used.push_back("input");
  return used;
}

TrainingRow read_prompt(const Json& row, const DatasetShape& shape, const std::string& where) {
  const std::string column = prompt_column(row);
  PromptRow result;
  if (shape.chat) {
    result.prompt.messages = messages_or_text(row, column, "user", shape, where);
    if (const std::string input = optional_text_column(row, "input", where);
        column == "instruction" && !input.empty())
      result.prompt.messages.back().set("content", Json(text_column(row, column, where) + "\n" + input));
    add_system_message(row, result.prompt.messages, where);
    remove_weights(result.prompt.messages);
  } else {
    result.prompt.text = text_column(row, column, where);
  }
  TrainingRow training;
  if (shape.chat) training.context = context_of_row(row, where);
  const auto used = prompt_columns(row, shape.chat);
  for (const auto& [name, value] : row.as_object())
    if (std::find(used.begin(), used.end(), name) == used.end()) training.extra.set(name, value);
  training.body = std::move(result);
  return training;
}

TrainingRow read_stepwise(const Json& row, const DatasetShape&, const std::string& where) {
  StepwiseRow result;
  result.prompt = text_column(row, "prompt", where);
  for (const Json& step : list_column(row, "completions", where)) {
    if (!step.is_string())
      fail("{}: a step of 'completions' must be text but is {}", where, step.type_name());
    result.steps.push_back(step.as_string());
  }
  for (const Json& label : list_column(row, "labels", where))
    result.correct.push_back(flag_value(label, "labels", where));
  if (result.steps.empty() || result.steps.size() != result.correct.size())
    fail("{}: 'completions' has {} steps but 'labels' has {} entries", where, result.steps.size(),
         result.correct.size());
  TrainingRow training;
  training.body = std::move(result);
  return training;
}

}  // namespace

const ShapeFamily kPromptShape = {
    .name = "prompt",
    .aliases = {"grpo", "prompts", "prompt_only", "rloo"},
    .columns = "prompt + anything for reward functions",
    .kind = RowKind::prompt,
    .rank = 6,
    .matches = [](const Json& row) { return has_column(row, prompt_column(row)); },
    // A question is asked in the model's own format where it has one; a column "prompt" is taken as it is.
    .is_chat =
        [](const Json& row, bool has_chat_template) {
          const std::string column = prompt_column(row);
          const Json* value = row.find(column);
          if (value != nullptr && is_messages(*value)) return true;
          return column != "prompt" && has_chat_template;
        },
    .meaning =
        [](const Json& row, const DatasetShape& s) {
          return fmt::format("prompts (column {}, {})", prompt_column(row),
                             s.chat ? "as messages" : "as plain text");
        },
    .used = [](const Json& row, const DatasetShape& s) { return prompt_columns(row, s.chat); },
    .read = read_prompt};

const ShapeFamily kStepwiseShape = {
    .name = "stepwise",
    .aliases = {"stepwise_supervised", "prm"},
    .columns = "prompt + completions + labels",
    .kind = RowKind::stepwise,
    .rank = 0,
    .matches =
        [](const Json& row) {
          const Json *steps = row.find("completions"), *labels = row.find("labels");
          return steps != nullptr && steps->is_array() && labels != nullptr && labels->is_array();
        },
    .is_chat = [](const Json&, bool) { return false; },
    .meaning = [](const Json&,
                  const DatasetShape&) { return std::string("answers in steps, each right or wrong"); },
    .used =
        [](const Json&, const DatasetShape&) {
          return std::vector<std::string>{"prompt", "completions", "labels"};
        },
    .read = read_stepwise};

}  // namespace serval
