#include "data/row_shape.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

constexpr const char* kKnownShapes =
    "known are: messages; prompt + completion; instruction + [input] + output; text (or the column that "
    "dataset_text_field names)";

std::string names_of_columns(const Json& row) {
  std::vector<std::string> names;
  for (const auto& [name, value] : row.as_object()) names.push_back(name);
  return names.empty() ? "none" : join(names, ", ");
}

bool has(const Json& row, std::string_view column) {
  const Json* value = row.find(column);
  return value != nullptr && !value->is_null();
}

const Json& column_of(const Json& row, std::string_view column, const std::string& where) {
  if (const Json* value = row.find(column)) return *value;
  fail("{}: the column '{}' is missing; found columns: {}", where, column, names_of_columns(row));
}

const std::string& text_of(const Json& row, std::string_view column, const std::string& where) {
  const Json& value = column_of(row, column, where);
  if (!value.is_string()) fail("{}: '{}' must be text but is {}", where, column, value.type_name());
  return value.as_string();
}

std::string optional_text(const Json& row, std::string_view column, const std::string& where) {
  return has(row, column) ? text_of(row, column, where) : std::string();
}

void check_message(const Json& message, const std::string& name, const std::string& where) {
  if (!message.is_object())
    fail("{}: '{}' must be an object with role and content but is {}", where, name, message.type_name());
  const Json* role = message.find("role");
  if (role == nullptr || !role->is_string())
    fail("{}: '{}' needs a 'role' that is text (system, user, assistant, ...); it has: {}", where, name,
         names_of_columns(message));
  const Json* content = message.find("content");
  if (content == nullptr) {
    if (!has(message, "tool_calls"))
      fail("{}: '{}' needs 'content' (or 'tool_calls'); it has: {}", where, name, names_of_columns(message));
    return;
  }
  if (!content->is_string() && !content->is_array() && !content->is_null())
    fail("{}: the 'content' of '{}' must be text or a list of parts but is {}", where, name,
         content->type_name());
}

const Json::Array& messages_of(const Json& row, std::string_view column, const std::string& where) {
  const Json& value = column_of(row, column, where);
  if (!value.is_array())
    fail("{}: '{}' must be a list of messages but is {}", where, column, value.type_name());
  const auto& messages = value.as_array();
  if (messages.empty()) fail("{}: '{}' is an empty list; expected at least one message", where, column);
  for (size_t i = 0; i < messages.size(); ++i)
    check_message(messages[i], fmt::format("{}[{}]", column, i), where);
  return messages;
}

Json conversation_of(const Json& row, Json::Array messages, const std::string& where) {
  Json conversation = Json::object();
  conversation.set("messages", Json(std::move(messages)));
  if (has(row, "tools")) {
    const Json& tools = *row.find("tools");
    // Tables of text keep a list of tools as JSON inside a string.
    conversation.set("tools",
                     tools.is_string() ? Json::parse(tools.as_string(), where + ": column 'tools'") : tools);
  }
  if (has(row, "chat_template_kwargs")) {
    const Json& extra = *row.find("chat_template_kwargs");
    if (!extra.is_object())
      fail("{}: 'chat_template_kwargs' must be an object but is {}", where, extra.type_name());
    for (const auto& [name, value] : extra.as_object()) {
      if (name == "messages") fail("{}: 'chat_template_kwargs' must not replace 'messages'", where);
      conversation.set(name, value);
    }
  }
  return conversation;
}

Json message(std::string_view role, std::string content) {
  Json result = Json::object();
  result.set("role", Json(role));
  result.set("content", Json(std::move(content)));
  return result;
}

TrainingRow read_alpaca(const Json& row, const DatasetShape& shape, const std::string& where) {
  const std::string& instruction = text_of(row, "instruction", where);
  const std::string& output = text_of(row, "output", where);
  const std::string input = optional_text(row, "input", where);
  const std::string system = optional_text(row, "system", where);
  TrainingRow result;
  if (shape.chat) {
    Json::Array messages;
    if (!system.empty()) messages.push_back(message("system", system));
    messages.push_back(message("user", input.empty() ? instruction : instruction + "\n" + input));
    result.prompt_messages = static_cast<int64_t>(messages.size());
    messages.push_back(message("assistant", output));
    result.conversation = conversation_of(row, std::move(messages), where);
    return result;
  }
  // The wording is a format: models tuned on Alpaca data expect these bytes.
  std::string head =
      input.empty() ? "Below is an instruction that describes a task. Write a response that appropriately "
                      "completes the request."
                    : "Below is an instruction that describes a task, paired with an input that provides "
                      "further context. Write a response that appropriately completes the request.";
  if (!system.empty()) head = system;
  result.prompt = head + "\n\n### Instruction:\n" + instruction;
  if (!input.empty()) result.prompt += "\n\n### Input:\n" + input;
  result.prompt += "\n\n### Response:\n";
  result.completion = output;
  return result;
}

TrainingRow read_prompt_completion(const Json& row, const DatasetShape& shape, const std::string& where) {
  TrainingRow result;
  if (!shape.chat) {
    result.prompt = text_of(row, "prompt", where);
    result.completion = text_of(row, "completion", where);
    return result;
  }
  Json::Array messages = messages_of(row, "prompt", where);
  result.prompt_messages = static_cast<int64_t>(messages.size());
  for (const Json& one : messages_of(row, "completion", where)) messages.push_back(one);
  result.conversation = conversation_of(row, std::move(messages), where);
  return result;
}

std::string ignored_columns(const Json& row, const std::vector<std::string>& used) {
  std::vector<std::string> rest;
  for (const auto& [name, value] : row.as_object())
    if (std::find(used.begin(), used.end(), name) == used.end()) rest.push_back(name);
  return rest.empty() ? std::string() : "; not read: " + join(rest, ", ");
}

RowShape shape_of_columns(const Json& row, const ShapeOptions& options, const std::string& where) {
  if (options.text_field != "text") {
    if (row.contains(options.text_field)) return RowShape::text;
    fail("{}: there is no column '{}' (dataset_text_field); found columns: {}", where, options.text_field,
         names_of_columns(row));
  }
  for (const char* media : {"image", "images", "audio", "audios", "video", "videos"})
    if (has(row, media))
      fail(
          "{}: the column '{}' asks for training on media, which is not supported; remove the column to "
          "train "
          "on the text alone",
          where, media);
  std::vector<std::pair<RowShape, const char*>> found;
  if (row.contains("messages")) found.emplace_back(RowShape::messages, "messages");
  if (row.contains("prompt") && row.contains("completion"))
    found.emplace_back(RowShape::prompt_completion, "prompt + completion");
  if (row.contains("instruction") && row.contains("output"))
    found.emplace_back(RowShape::alpaca, "instruction + output");
  // Some Alpaca files carry a "text" column too, the same row already formatted.
  if (found.empty() && row.contains("text")) return RowShape::text;
  if (found.size() == 1) return found.front().first;
  if (found.empty())
    fail("{}: these columns are no known kind of dataset: {}; {}", where, names_of_columns(row),
         kKnownShapes);
  fail("{}: the columns are of two kinds of dataset, '{}' and '{}'; remove one of them", where,
       found[0].second, found[1].second);
}

}  // namespace

DatasetShape detect_shape(const DatasetReader& rows, const ShapeOptions& options) {
  const Json row = rows.row(0);
  const std::string where = rows.where(0);
  DatasetShape result;
  result.text_field = options.text_field;
  result.shape = shape_of_columns(row, options, where);
  std::vector<std::string> used;
  std::string meaning;
  switch (result.shape) {
    case RowShape::messages:
      result.chat = true;
      used = {"messages", "tools", "chat_template_kwargs"};
      meaning = "conversations (column messages)";
      break;
    case RowShape::prompt_completion:
      result.chat = row.at("prompt").is_array();
      used = {"prompt", "completion"};
      if (result.chat) used.insert(used.end(), {"tools", "chat_template_kwargs"});
      meaning = result.chat ? "prompts and completions as messages" : "prompts and completions as plain text";
      break;
    case RowShape::alpaca:
      result.chat = options.has_chat_template;
      used = {"instruction", "input", "output", "system"};
      meaning = result.chat ? "Alpaca rows, turned into messages for the model's chat template"
                            : "Alpaca rows, in the Alpaca prompt format (the model has no chat template)";
      break;
    case RowShape::text:
      used = {options.text_field};
      meaning = fmt::format("plain text (column {})", options.text_field);
      break;
  }
  if (result.chat && !options.has_chat_template)
    fail(
        "{}: the rows are conversations, but the model has no chat template; add chat_template.jinja beside "
        "its "
        "tokenizer, or use prompt/completion or text rows",
        where);
  result.explanation =
      fmt::format("{}: {} rows of {}{}", rows.path(), rows.size(), meaning, ignored_columns(row, used));
  read_training_row(row, result, where);  // a wrong first row is reported before any work
  return result;
}

TrainingRow read_training_row(const Json& row, const DatasetShape& shape, const std::string& where) {
  TrainingRow result;
  switch (shape.shape) {
    case RowShape::messages:
      result.conversation = conversation_of(row, messages_of(row, "messages", where), where);
      return result;
    case RowShape::prompt_completion:
      return read_prompt_completion(row, shape, where);
    case RowShape::alpaca:
      return read_alpaca(row, shape, where);
    case RowShape::text:
      result.completion = text_of(row, shape.text_field, where);
      return result;
  }
  return result;
}

}  // namespace serval
