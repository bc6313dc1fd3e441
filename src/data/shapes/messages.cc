#include "data/shapes/messages.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "data/shapes/columns.h"

namespace serval {
namespace {

std::string role_from(const std::string& role) {
  static constexpr std::pair<std::string_view, std::string_view> kRoles[] = {
      {"human", "user"},         {"prompter", "user"},          {"gpt", "assistant"},
      {"bot", "assistant"},      {"chatgpt", "assistant"},      {"chatbot", "assistant"},
      {"bing", "assistant"},     {"bard", "assistant"},         {"observation", "tool"},
      {"function", "tool"},      {"function_response", "tool"}, {"function_result", "tool"},
      {"tool_response", "tool"}, {"tool_result", "tool"}};
  for (const auto& [from, to] : kRoles)
    if (role == from) return std::string(to);
  return role;
}

bool is_call_role(const std::string& role) {
  return role == "function_call" || role == "tool_call" || role == "function-call";
}

std::string key_of(const Json& message, const std::string& wanted,
                   std::initializer_list<const char*> spellings) {
  if (!wanted.empty()) return wanted;
  for (const char* spelling : spellings)
    if (message.contains(spelling)) return spelling;
  return *spellings.begin();
}

// Arguments that a file keeps as JSON inside a string; templates want the object.
Json parsed_object(const Json& value) {
  if (!value.is_string()) return value;
  try {
    Json parsed = Json::parse(value.as_string(), "arguments");
    if (parsed.is_object()) return parsed;
  } catch (const UserError&) {
    // Text that is no JSON is the call's argument as it stands.
  }
  return value;
}

Json tool_call_of(const Json& call, const std::string& name, const std::string& where) {
  if (!call.is_object())
    fail("{}: a tool call of '{}' must be an object with name and arguments but is {}", where, name,
         call.type_name());
  const Json* inner = call.find("function");
  const Json& function = inner != nullptr && inner->is_object() ? *inner : call;
  const Json* function_name = function.find("name");
  if (function_name == nullptr || !function_name->is_string())
    fail("{}: a tool call of '{}' needs a 'name' that is text; it has: {}", where, name,
         names_of_columns(function));
  Json result = Json::object();
  if (has_column(call, "id")) result.set("id", call.at("id"));
  result.set("type", Json("function"));
  Json written = Json::object();
  written.set("name", *function_name);
  const Json* arguments = function.find("arguments");
  if (arguments == nullptr) arguments = function.find("parameters");
  written.set("arguments",
              arguments == nullptr || arguments->is_null() ? Json::object() : parsed_object(*arguments));
  result.set("function", std::move(written));
  return result;
}

void add_tool_calls(const Json& calls, Json::Array& result, const std::string& name,
                    const std::string& where) {
  if (calls.is_array())
    for (const Json& call : calls.as_array()) result.push_back(tool_call_of(call, name, where));
  else
    result.push_back(tool_call_of(calls, name, where));
}

bool is_media_type(std::string_view type) {
  for (const char* kind : {"image", "audio", "video", "input_audio"})
    if (starts_with(type, kind)) return true;
  return false;
}

// A content of parts. Parts that are text alone become one text; reasoning and tool calls that are written as
// parts become what they are elsewhere.
void read_parts(const Json::Array& parts, Json& message, Json::Array& calls, const std::string& name,
                const DatasetShape& shape, const std::string& where) {
  std::string text, reasoning;
  Json kept = Json::array();
  bool only_text = true;
  for (const Json& part : parts) {
    if (part.is_string()) {
      text += part.as_string();
      Json one = Json::object();
      one.set("type", Json("text"));
      one.set("text", part);
      kept.push_back(std::move(one));
      continue;
    }
    if (!part.is_object())
      fail("{}: a part of the content of '{}' must be an object but is {}", where, name, part.type_name());
    const Json* type_value = part.find("type");
    const std::string type = type_value != nullptr && type_value->is_string() ? type_value->as_string() : "";
    const Json* value = part.find("value");
    if (value == nullptr) value = part.find(type == "reasoning" || type == "thinking" ? type : "text");
    if (type == "tool_call" && value != nullptr) {
      add_tool_calls(parsed_object(*value), calls, name, where);
    } else if ((type == "reasoning" || type == "thinking") && value != nullptr && value->is_string()) {
      reasoning += value->as_string();
    } else if ((type == "text" || type == "input_text" || type == "output_text") && value != nullptr &&
               value->is_string()) {
      text += value->as_string();
      Json one = Json::object();
      one.set("type", Json("text"));
      one.set("text", *value);
      kept.push_back(std::move(one));
    } else {
      if (is_media_type(type) && !shape.allow_media)
        fail("{}: '{}' has a part of type {}, and training on media is not supported; remove these rows",
             where, name, in_quotes(type));
      only_text = false;
      kept.push_back(part);
    }
  }
  if (only_text)
    message.set("content", Json(std::move(text)));
  else
    message.set("content", std::move(kept));
  if (!reasoning.empty()) message.set("reasoning_content", Json(std::move(reasoning)));
}

void read_weight(const Json& message, Json& result, const std::string& name, const std::string& where) {
  for (const char* key : {"weight", "loss_weight", "train", "training"}) {
    const Json* value = message.find(key);
    if (value == nullptr || value->is_null()) continue;
    double weight = 0;
    if (std::string_view(key) == "train" || std::string_view(key) == "training") {
      weight = flag_value(*value, fmt::format("{}.{}", name, key), where) ? 1 : 0;
    } else {
      if (!value->is_number() || !(value->as_double() >= 0) || value->as_double() > 1e6)
        fail("{}: '{}.{}' must be a number from 0 (not trained) but is {}", where, name, key,
             value->is_number() ? value->dump() : value->type_name());
      weight = value->as_double();
    }
    result.set("weight", weight == 0 ? Json(0) : weight == 1 ? Json(1) : Json(weight));
    return;
  }
}

Json read_message(const Json& message, const std::string& name, const DatasetShape& shape,
                  const std::string& where) {
  if (!message.is_object())
    fail("{}: '{}' must be an object with role and content but is {}", where, name, message.type_name());
  const std::string role_key = key_of(message, shape.role_key, {"role", "from", "speaker"});
  const std::string content_key = key_of(message, shape.content_key, {"content", "value", "text"});
  const Json* role = message.find(role_key);
  if (role == nullptr || !role->is_string())
    fail("{}: '{}' needs a 'role' that is text (system, user, assistant, ...); it has: {}", where, name,
         names_of_columns(message));
  const Json* content = message.find(content_key);
  const bool calls_alone = has_column(message, "tool_calls") || has_column(message, "function_call");
  if (content == nullptr && !calls_alone)
    fail("{}: '{}' needs 'content' (or 'tool_calls'); it has: {}", where, name, names_of_columns(message));
  if (content != nullptr && !content->is_string() && !content->is_array() && !content->is_null())
    fail("{}: the 'content' of '{}' must be text or a list of parts but is {}", where, name,
         content->type_name());

  Json result = Json::object();
  Json::Array calls;
  const bool call_turn = is_call_role(role->as_string());
  result.set("role", Json(call_turn ? "assistant" : role_from(role->as_string())));
  const Json called = call_turn && content != nullptr && content->is_string() ? [&] {
    try {
      return Json::parse(content->as_string(), "call");
    } catch (const UserError&) {
      return Json();  // a call written in the model's own way stays text
    }
  }()
                                                                              : Json();
  if (called.is_object() || called.is_array()) {
    result.set("content", Json(""));
    add_tool_calls(called, calls, name, where);
  } else if (content != nullptr && content->is_array()) {
    read_parts(content->as_array(), result, calls, name, shape, where);
  } else if (content != nullptr) {
    result.set("content", *content);
  }
  if (has_column(message, "tool_calls")) {
    const Json& listed = *message.find("tool_calls");
    if (!listed.is_array())
      fail("{}: the 'tool_calls' of '{}' must be a list but is {}", where, name, listed.type_name());
    add_tool_calls(listed, calls, name, where);
  }
  if (has_column(message, "function_call")) add_tool_calls(message.at("function_call"), calls, name, where);
  if (!calls.empty() || (message.contains("tool_calls") && has_column(message, "tool_calls")))
    result.set("tool_calls", Json(std::move(calls)));
  read_weight(message, result, name, where);
  static constexpr std::string_view kRead[] = {"tool_calls",  "function_call", "weight",
                                               "loss_weight", "train",         "training"};
  for (const auto& [key, value] : message.as_object()) {
    if (key == role_key || key == content_key || value.is_null()) continue;
    if (std::find(std::begin(kRead), std::end(kRead), key) != std::end(kRead)) continue;
    if (!result.contains(key)) result.set(key, value);
  }
  return result;
}

// A tool as a template expects it: {"type": "function", "function": {...}}.
Json wrapped_tool(const Json& tool) {
  if (!tool.is_object() || tool.contains("function") || !tool.contains("name")) return tool;
  Json result = Json::object();
  result.set("type", Json("function"));
  result.set("function", tool);
  return result;
}

}  // namespace

bool is_messages(const Json& value) {
  if (value.is_object()) return true;
  return value.is_array() && !value.as_array().empty() && value.as_array()[0].is_object();
}

Json::Array messages_of_value(const Json& value, const std::string& name, const DatasetShape& shape,
                              const std::string& where) {
  if (value.is_string() && starts_with(trim(value.as_string()), "[")) {
    // Tables of text keep a list as JSON inside a string.
    const Json parsed = Json::parse(value.as_string(), fmt::format("{}: '{}'", where, name));
    if (parsed.is_array()) return messages_of_value(parsed, name, shape, where);
  }
  if (value.is_object()) return {read_message(value, name, shape, where)};
  if (!value.is_array())
    fail("{}: '{}' must be a list of messages but is {}", where, name, value.type_name());
  const auto& list = value.as_array();
  if (list.empty()) fail("{}: '{}' is an empty list; expected at least one message", where, name);
  Json::Array messages;
  messages.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i)
    messages.push_back(read_message(list[i], fmt::format("{}[{}]", name, i), shape, where));
  return messages;
}

Json::Array messages_of_column(const Json& row, std::string_view column, const DatasetShape& shape,
                               const std::string& where) {
  return messages_of_value(column_of(row, column, where), std::string(column), shape, where);
}

Json context_of_row(const Json& row, const std::string& where) {
  Json context = Json::object();
  if (const std::string column = first_column(row, {"tools", "functions"}); !column.empty()) {
    const Json& value = *row.find(column);
    // Tables of text keep a list of tools as JSON inside a string.
    Json tools = value;
    if (value.is_string())
      tools = trim(value.as_string()).empty()
                  ? Json::array()
                  : Json::parse(value.as_string(), fmt::format("{}: column '{}'", where, column));
    if (!tools.is_array())
      fail("{}: '{}' must be a list of tools but is {}", where, column, tools.type_name());
    for (Json& tool : tools.as_array()) tool = wrapped_tool(tool);
    // No tools is not the same to a template as an empty list of them.
    if (tools.size() > 0) context.set("tools", std::move(tools));
  }
  if (has_column(row, "documents")) context.set("documents", *row.find("documents"));
  if (has_column(row, "chat_template_kwargs")) {
    const Json& extra = *row.find("chat_template_kwargs");
    if (!extra.is_object())
      fail("{}: 'chat_template_kwargs' must be an object but is {}", where, extra.type_name());
    for (const auto& [name, value] : extra.as_object()) {
      if (name == "messages") fail("{}: 'chat_template_kwargs' must not replace 'messages'", where);
      context.set(name, value);
    }
  }
  return context;
}

Json make_message(std::string_view role, std::string content) {
  Json result = Json::object();
  result.set("role", Json(role));
  result.set("content", Json(std::move(content)));
  return result;
}

void add_system_message(const Json& row, Json::Array& messages, const std::string& where) {
  const std::string column = first_column(row, {"system", "system_prompt"});
  if (column.empty()) return;
  std::string system = text_column(row, column, where);
  const bool has_one = !messages.empty() && messages[0].at("role") == Json("system");
  if (!system.empty() && !has_one)
    messages.insert(messages.begin(), make_message("system", std::move(system)));
}

void remove_weights(Json::Array& messages) {
  for (Json& message : messages) message.erase("weight");
}

Json::Array messages_or_text(const Json& row, std::string_view column, std::string_view role_of_text,
                             const DatasetShape& shape, const std::string& where) {
  const Json& value = column_of(row, column, where);
  if (value.is_string()) return {make_message(role_of_text, value.as_string())};
  return messages_of_value(value, std::string(column), shape, where);
}

Json conversation_for_template(const Json::Array& messages, const Json& context) {
  Json conversation = Json::object();
  Json::Array plain = messages;
  remove_weights(plain);
  conversation.set("messages", Json(std::move(plain)));
  for (const auto& [name, value] : context.as_object()) conversation.set(name, value);
  return conversation;
}

}  // namespace serval
