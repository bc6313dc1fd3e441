// An answer, and whether it is wanted.
#include "base/error.h"
#include "data/shapes/columns.h"
#include "data/shapes/instructions.h"
#include "data/shapes/messages.h"
#include "data/shapes/shape_family.h"

namespace serval {
namespace {

std::string label_column(const Json& row) {
  return first_column(row, {"label", "kto_tag"});
}

std::string messages_column(const Json& row) {
  return first_column(row, {"messages", "conversations"});
}

bool is_flag(const Json& value) {
  return value.is_bool() || value == Json(0) || value == Json(1) || value == Json("true") ||
         value == Json("false");
}

bool matches_unpaired(const Json& row) {
  const std::string label = label_column(row);
  if (label.empty() || !is_flag(row.at(label))) return false;
  return !messages_column(row).empty() || row.contains("completion") ||
         (row.contains("instruction") && row.contains("output"));
}

bool is_chat(const Json& row, bool has_chat_template) {
  if (!messages_column(row).empty()) return true;
  if (row.contains("completion"))
    return is_messages(row.at("completion")) || (row.contains("prompt") && is_messages(row.at("prompt")));
  return has_chat_template;
}

// The last message is the answer.
void split_off_answer(Json::Array messages, UnpairedRow& row, const std::string& where) {
  if (messages.size() < 2 || messages.back().at("role") != Json("assistant"))
    fail("{}: the messages must end with the assistant's answer after at least one other", where);
  remove_weights(messages);
  row.completion.messages = {messages.back()};
  messages.pop_back();
  row.prompt.messages = std::move(messages);
}

TrainingRow read_unpaired(const Json& row, const DatasetShape& shape, const std::string& where) {
  UnpairedRow result;
  const std::string label = label_column(row), messages = messages_column(row);
  result.desirable = flag_value(column_of(row, label.empty() ? "label" : label, where),
                                label.empty() ? "label" : label, where);
  if (!messages.empty()) {
    Json::Array list = messages_of_column(row, messages, shape, where);
    add_system_message(row, list, where);
    split_off_answer(std::move(list), result, where);
  } else if (row.contains("completion") && !row.contains("prompt") && shape.chat) {
    split_off_answer(messages_of_column(row, "completion", shape, where), result, where);
  } else if (row.contains("completion")) {
    if (shape.chat) {
      result.prompt.messages = messages_or_text(row, "prompt", "user", shape, where);
      add_system_message(row, result.prompt.messages, where);
      result.completion.messages = messages_or_text(row, "completion", "assistant", shape, where);
      remove_weights(result.prompt.messages);
      remove_weights(result.completion.messages);
    } else {
      result.prompt.text = text_column(row, "prompt", where);
      result.completion.text = text_column(row, "completion", where);
    }
  } else {
    result.prompt = instruction_passage(
        {text_column(row, "instruction", where), optional_text_column(row, "input", where),
         optional_text_column(row, "system", where)},
        shape.chat);
    result.completion = answer_passage(text_column(row, "output", where), shape.chat);
  }
  TrainingRow training;
  if (shape.chat) training.context = context_of_row(row, where);
  training.body = std::move(result);
  return training;
}

}  // namespace

const ShapeFamily kUnpairedShape = {
    .name = "unpaired",
    .aliases = {"kto", "bco", "unpaired_preference"},
    .columns = "prompt + completion + label (or messages + kto_tag)",
    .kind = RowKind::unpaired,
    .rank = 1,
    .matches = matches_unpaired,
    .is_chat = is_chat,
    .meaning =
        [](const Json& row, const DatasetShape&) {
          const std::string label = label_column(row), messages = messages_column(row);
          return fmt::format("answers with a verdict ({} + {})",
                             !messages.empty()            ? messages
                             : row.contains("completion") ? "prompt + completion"
                                                          : "instruction + output",
                             label.empty() ? "label" : label);
        },
    .used =
        [](const Json& row, const DatasetShape&) {
          std::vector<std::string> used = {"label", "kto_tag", "system", "system_prompt"};
          if (!messages_column(row).empty())
            used.push_back(messages_column(row));
          else if (row.contains("completion"))
            used.insert(used.end(), {"prompt", "completion"});
          else
            used.insert(used.end(), {"instruction", "input", "output"});
          used.insert(used.end(), std::begin(kContextColumns), std::end(kContextColumns));
          return used;
        },
    .read = read_unpaired};

}  // namespace serval
