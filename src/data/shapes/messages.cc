#include "data/shapes/messages.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "data/shapes/columns.h"

namespace serval {
namespace {

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

double weight_value(const Json& value, const std::string& name, const std::string& where) {
  if (!value.is_number() || !(value.as_double() >= 0) || value.as_double() > 1e6)
    fail("{}: '{}' must be a number from 0 (not trained) but is {}", where, name,
         value.is_number() ? value.dump() : value.type_name());
  return value.as_double();
}

int64_t characters_in(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

Json detail_of(int64_t begin, int64_t end, bool trained) {
  Json one = Json::object();
  one.set("begin_offset", Json(begin));
  one.set("end_offset", Json(end));  // counted, as Axolotl has it
  one.set("train", Json(trained));
  return one;
}

// Which characters of a text are trained, where some of its parts say so; one that does not is trained.
class PartDetail {
 public:
  void add(const Json& part, std::string_view text, const std::string& name, const std::string& where) {
    bool trained = true;
    for (const char* key : {"train", "training", "weight"}) {
      const Json* value = part.is_object() ? part.find(key) : nullptr;
      if (value == nullptr || value->is_null()) continue;
      said_ = true;
      const std::string place = fmt::format("{}.{}", name, key);
      if (std::string_view(key) != "weight") {
        trained = flag_value(*value, place, where);
      } else if (const double weight = weight_value(*value, place, where); weight == 0 || weight == 1) {
        trained = weight == 1;
      } else {
        fail("{}: '{}' is {}, but a part counts 0 or 1; give the whole message a weight", where, place,
             weight);
      }
      break;
    }
    const int64_t size = characters_in(text);
    if (size > 0) detail_.push_back(detail_of(end_, end_ + size - 1, trained));
    end_ += size;
  }
  bool said() const { return said_; }
  Json take() { return Json(std::move(detail_)); }

 private:
  Json::Array detail_;
  int64_t end_ = 0;
  bool said_ = false;
};

// A content of parts. Parts that are text alone become one text; reasoning and tool calls that are written as
// parts become what they are elsewhere.
void read_parts(const Json::Array& parts, Json& message, Json::Array& calls, const std::string& name,
                const DatasetShape& shape, const std::string& where) {
  std::string text, reasoning;
  Json kept = Json::array();
  bool only_text = true;
  PartDetail detail;
  for (const Json& part : parts) {
    if (part.is_string()) {
      detail.add(part, part.as_string(), name, where);
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
      detail.add(part, value->as_string(), name, where);
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
  if (detail.said() && !only_text)
    fail("{}: parts of '{}' say whether they are trained, which only parts of text can", where, name);
  if (detail.said()) message.set("train_detail", detail.take());
}

void read_weight(const Json& message, Json& result, const std::string& name, const DatasetShape& shape,
                 const std::string& where) {
  std::vector<std::string> keys = {"weight", "loss_weight", "train", "training"};
  if (!shape.training_key.empty()) keys = {shape.training_key};
  for (const std::string& key : keys) {
    const Json* value = message.find(key);
    if (value == nullptr || value->is_null()) continue;
    const std::string place = fmt::format("{}.{}", name, key);
    const bool number = value->is_number() && key != "train" && key != "training";
    const double weight = number || key == "weight" || key == "loss_weight"
                              ? weight_value(*value, place, where)
                          : flag_value(*value, place, where) ? 1
                                                             : 0;
    result.set("weight", weight == 0 ? Json(0) : weight == 1 ? Json(1) : Json(weight));
    return;
  }
}

// [{"begin_offset", "end_offset", "train"}]: characters of the content, the last one counted.
void read_detail(const Json& message, Json& result, const std::string& name, const DatasetShape& shape,
                 const std::string& where) {
  std::vector<std::string> keys = {"train_detail", "training_detail"};
  if (!shape.training_detail_key.empty()) keys = {shape.training_detail_key};
  for (const std::string& key : keys) {
    const Json* given = message.find(key);
    if (given == nullptr || given->is_null()) continue;
    const std::string place = fmt::format("{}.{}", name, key);
    if (!given->is_array())
      fail("{}: '{}' must be a list of ranges but is {}", where, place, given->type_name());
    if (given->size() == 0) {
      result.set("weight", Json(0));  // nothing of it is trained
      return;
    }
    const Json* content = result.find("content");
    if (content == nullptr || !content->is_string())
      fail("{}: '{}' needs a content that is text", where, place);
    const int64_t size = characters_in(content->as_string());
    Json::Array detail;
    for (const Json& range : given->as_array()) {
      const Json *begin = nullptr, *end = nullptr, *trained = nullptr;
      if (range.is_object()) {
        begin = range.find("begin_offset");
        end = range.find("end_offset");
        trained = range.find("train");
      }
      if (begin == nullptr || end == nullptr || trained == nullptr || !begin->is_int() || !end->is_int())
        fail("{}: each item of '{}' must be {{\"begin_offset\": 0, \"end_offset\": 5, \"train\": true}}",
             where, place);
      if (begin->as_int() < 0 || end->as_int() < begin->as_int() || end->as_int() >= size)
        fail("{}: '{}' has the range {} to {}, but the content has the characters 0 to {}", where, place,
             begin->as_int(), end->as_int(), size - 1);
      detail.push_back(detail_of(begin->as_int(), end->as_int(), flag_value(*trained, place, where)));
    }
    result.set("train_detail", Json(std::move(detail)));
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
  result.set("role", Json(call_turn ? "assistant" : standard_role(role->as_string())));
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
  read_weight(message, result, name, shape, where);
  read_detail(message, result, name, shape, where);
  static constexpr std::string_view kRead[] = {"tool_calls",   "function_call",  "weight",
                                               "loss_weight",  "train",          "training",
                                               "train_detail", "training_detail"};
  for (const auto& [key, value] : message.as_object()) {
    if (key == role_key || key == content_key || value.is_null()) continue;
    if (key == shape.training_key || key == shape.training_detail_key) continue;
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

std::string standard_role(const std::string& role) {
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
  for (Json& message : messages) {
    message.erase("weight");
    message.erase("train_detail");
  }
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
