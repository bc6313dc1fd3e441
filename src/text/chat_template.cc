#include "text/chat_template.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/lexer.h"
#include "text/jinja/parser.h"
#include "text/jinja/unicode.h"

namespace serval {
namespace {

constexpr std::array<const char*, 3> kReasoningKeys = {"reasoning_content", "thinking", "reasoning"};

// Where byte `offset` of the source is, for messages; both count from 1.
std::string place_of(std::string_view source, int64_t offset) {
  const std::string_view before =
      source.substr(0, std::min(static_cast<size_t>(std::max<int64_t>(offset, 0)), source.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const std::string_view rest = newline == std::string_view::npos ? before : before.substr(newline + 1);
  return fmt::format("line {}, column {}", line, 1 + jinja::count_code_points(rest));
}

// As transformers does: the reasoning of a message is known under each of its names.
Json with_reasoning_names(const Json& message) {
  if (!message.is_object()) return message;
  const Json* reasoning = nullptr;
  for (const char* key : kReasoningKeys)
    if (const Json* found = message.find(key); reasoning == nullptr && found != nullptr && !found->is_null())
      reasoning = found;
  if (reasoning == nullptr) return message;
  Json named = Json::object();
  named.set("thinking", *reasoning);
  for (const auto& [key, value] : message.as_object()) named.set(key, value);
  named.set("reasoning_content", *reasoning);
  return named;
}

// Messages, tools and documents are lists of objects.
void check_objects(const Json& list, const std::string& name) {
  if (list.is_null()) return;
  if (!list.is_array()) fail("'{}' is {}, expected a list of objects", name, list.type_name());
  for (const Json& item : list.as_array())
    if (!item.is_object()) fail("'{}' holds {}, expected objects", name, item.type_name());
}

// Marks where the last message is to be continued; the tag of transformers, so that a template sees
// the same.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

// Puts the tag after the part of the last message that is to be continued, and gives that part.
std::string tag_final_message(Json& messages, const std::string& key, std::string_view source) {
  if (messages.size() == 0) fail("continue_final_message: the conversation is empty");
  Json& message = messages.as_array().back();
  Json* part = message.find(key);
  if (part == nullptr || part->is_null()) fail("continue_final_message: the last message has no '{}'", key);
  const Json original = *part;
  // Reasoning has several names, of which a template reads one.
  std::vector<std::string> keys = {key};
  if (std::find(kReasoningKeys.begin(), kReasoningKeys.end(), key) != kReasoningKeys.end()) {
    keys.clear();
    for (const char* name : kReasoningKeys)
      if (const Json* same = message.find(name); same != nullptr && *same == original)
        keys.emplace_back(name);
  }
  if (std::none_of(keys.begin(), keys.end(),
                   [&](const std::string& k) { return source.find(k) != std::string_view::npos; }))
    fail("continue_final_message: the chat template does not read '{}'", key);
  if (original.is_string()) {
    for (const std::string& k : keys) message.set(k, original.as_string() + std::string(kContinueTag));
    return original.as_string();
  }
  if (!original.is_array()) fail("continue_final_message: '{}' of the last message is no text", key);
  auto& blocks = part->as_array();
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    Json* text = block->is_object() ? block->find("text") : nullptr;
    if (text == nullptr || !text->is_string()) continue;
    std::string last = text->as_string();
    *text = Json(last + std::string(kContinueTag));
    return last;
  }
  fail("continue_final_message: the last message has no text to continue");
}

// Cuts the text where the tag stands.
void cut_at_tag(RenderedChat& chat, const std::string& last) {
  const std::string_view tag = jinja::strip(kContinueTag, "", true, true);
  const size_t at = chat.text.rfind(tag);
  if (at == std::string::npos || chat.text.find(jinja::strip(last, "", true, true)) == std::string::npos)
    fail("continue_final_message: the chat template changes or leaves out the last message");
  const bool keeps_blanks = chat.text.compare(at, kContinueTag.size(), kContinueTag) == 0;
  chat.text.resize(at);
  if (!keeps_blanks) chat.text.resize(jinja::strip(chat.text, "", false, true).size());
  const auto size = static_cast<int64_t>(chat.text.size());
  for (TextSpan& span : chat.generated) {
    span.begin = std::min(span.begin, size);
    span.end = std::min(span.end, size);
  }
}

}  // namespace

struct ChatTemplate::Impl {
  std::string where, source;
  Json variables;
  jinja::Limits limits;
  std::shared_ptr<const jinja::Program> program;
};

ChatTemplate::ChatTemplate(std::string_view source, Json variables, const std::string& where) {
  auto impl = std::make_shared<Impl>();
  impl->where = where;
  impl->source = source;
  impl->variables = std::move(variables);
  if (static_cast<int64_t>(source.size()) > impl->limits.source_bytes)
    fail("{}: the chat template has {} bytes (limit: {})", where, source.size(), impl->limits.source_bytes);
  if (!jinja::is_valid_utf8(source)) fail("{}: the chat template is not valid UTF-8", where);
  try {
    impl->program = jinja::parse_template(source, impl->limits);
  } catch (const jinja::TemplateError& error) {
    fail("{}: chat template, {}: {}", where, place_of(jinja::normalize_source(source), error.offset),
         error.what());
  }
  impl_ = std::move(impl);
}

RenderedChat ChatTemplate::render(const Json& conversation, const RenderOptions& options) const {
  const bool continues = !options.continue_final_message.empty();
  if (continues && options.add_generation_prompt)
    fail("continue_final_message and add_generation_prompt exclude each other");
  jinja::Meter meter(impl_->limits);
  const jinja::MeterScope scope(meter);
  std::string last;
  try {
    jinja::Interpreter::Variables variables;
    // transformers always passes these.
    for (const char* name : {"messages", "tools", "documents"}) variables.emplace_back(name, jinja::Value());
    variables.emplace_back("add_generation_prompt", jinja::Value(options.add_generation_prompt));
    if (impl_->variables.is_object())
      for (const auto& [name, value] : impl_->variables.as_object())
        variables.emplace_back(name, jinja::Value::from_json(value));
    for (const auto& [name, value] : conversation.as_object()) {
      if (name == "add_generation_prompt" && options.add_generation_prompt) continue;
      if (name == "tools" || name == "documents") check_objects(value, name);
      if (name != "messages" || !value.is_array()) {
        variables.emplace_back(name, jinja::Value::from_json(value));
        continue;
      }
      check_objects(value, name);
      Json messages = Json::array();
      for (const Json& message : value.as_array()) messages.push_back(with_reasoning_names(message));
      if (continues)
        last = tag_final_message(messages, options.continue_final_message, impl_->program->source);
      variables.emplace_back(name, jinja::Value::from_json(messages));
    }
    jinja::Interpreter interpreter(*impl_->program, variables, options.now);
    jinja::Output output;
    interpreter.run(output);
    RenderedChat chat;
    chat.text = std::move(output.text);
    for (const jinja::TextRange& r : output.generated) {
      chat.generated.push_back({r.begin, r.end});
      chat.generated_messages.push_back(r.message);
    }
    if (continues) cut_at_tag(chat, last);
    return chat;
  } catch (const jinja::TemplateError& error) {
    fail("{}: chat template, {}: {}", impl_->where, place_of(impl_->program->source, error.offset),
         error.what());
  }
}

bool ChatTemplate::has_generation_spans() const {
  return impl_->program->has_generation;
}

const std::string& ChatTemplate::where() const {
  return impl_->where;
}

const std::string& ChatTemplate::source() const {
  return impl_->source;
}

std::string ChatTemplate::variable(std::string_view name) const {
  const Json* value = impl_->variables.is_object() ? impl_->variables.find(name) : nullptr;
  return value != nullptr && value->is_string() ? value->as_string() : "";
}

}  // namespace serval
