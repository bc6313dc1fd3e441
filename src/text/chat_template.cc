#include "text/chat_template.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/file.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/lexer.h"
#include "text/jinja/parser.h"
#include "text/jinja/unicode.h"

namespace serval {
namespace {

constexpr std::array<const char*, 7> kSpecialTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                       "pad_token", "cls_token", "mask_token"};
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

// A special token in tokenizer_config.json is a string or an object with its content.
std::string token_text(const Json& token) {
  if (token.is_string()) return token.as_string();
  const Json* content = token.is_object() ? token.find("content") : nullptr;
  return content != nullptr && content->is_string() ? content->as_string() : "";
}

Json special_tokens(const Json& config) {
  Json variables = Json::object();
  for (const char* name : kSpecialTokens) {
    const Json* token = config.find(name);
    if (token != nullptr && !token->is_null()) variables.set(name, token_text(*token));
  }
  return variables;
}

std::string template_in(const Json& config, const std::string& path) {
  const Json* source = config.find("chat_template");
  if (source == nullptr || source->is_null()) return {};
  if (source->is_string()) return source->as_string();
  if (!source->is_array()) fail("{}: chat_template is neither text nor a list of templates", path);
  for (const Json& entry : source->as_array())
    if (entry.at("name").as_string() == "default") return entry.at("template").as_string();
  fail("{}: chat_template has no entry named 'default'", path);
}

Json read_config(const std::string& directory) {
  const std::string path = join_path(directory, "tokenizer_config.json");
  return file_exists(path) ? Json::parse(read_file(path, 64 << 20), path) : Json::object();
}

}  // namespace

struct ChatTemplate::Impl {
  std::string where;
  Json variables;
  jinja::Limits limits;
  std::shared_ptr<const jinja::Program> program;
};

ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

ChatTemplate::ChatTemplate(std::string_view source, Json variables, const std::string& where) {
  auto impl = std::make_unique<Impl>();
  impl->where = where;
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

ChatTemplate ChatTemplate::from_directory(const std::string& directory) {
  const Json config = read_config(directory);
  std::string path = join_path(directory, "chat_template.jinja");
  std::string source;
  if (file_exists(path)) {
    source = read_file(path, 4 << 20);
  } else {
    path = join_path(directory, "tokenizer_config.json");
    source = template_in(config, path);
    if (source.empty())
      fail("{}: no chat template (neither chat_template.jinja nor chat_template in tokenizer_config.json)",
           directory);
  }
  return ChatTemplate(source, special_tokens(config), path);
}

bool ChatTemplate::exists_in(const std::string& directory) {
  if (file_exists(join_path(directory, "chat_template.jinja"))) return true;
  const Json config = read_config(directory);
  const Json* source = config.find("chat_template");
  return source != nullptr && !source->is_null();
}

RenderedChat ChatTemplate::render(const Json& conversation, const RenderOptions& options) const {
  jinja::Meter meter(impl_->limits);
  const jinja::MeterScope scope(meter);
  try {
    jinja::Interpreter::Variables variables;
    // transformers always passes these two.
    variables.emplace_back("tools", jinja::Value());
    variables.emplace_back("documents", jinja::Value());
    if (impl_->variables.is_object())
      for (const auto& [name, value] : impl_->variables.as_object())
        variables.emplace_back(name, jinja::Value::from_json(value));
    for (const auto& [name, value] : conversation.as_object()) {
      if (name != "messages" || !value.is_array()) {
        variables.emplace_back(name, jinja::Value::from_json(value));
        continue;
      }
      std::vector<jinja::Value> messages;
      for (const Json& message : value.as_array())
        messages.push_back(jinja::Value::from_json(with_reasoning_names(message)));
      variables.emplace_back(name, jinja::Value::list(std::move(messages)));
    }
    variables.emplace_back("add_generation_prompt", jinja::Value(options.add_generation_prompt));
    jinja::Interpreter interpreter(*impl_->program, variables, options.now);
    jinja::Output output;
    interpreter.run(output);
    RenderedChat chat;
    chat.text = std::move(output.text);
    for (const jinja::TextRange& r : output.generated) chat.generated.push_back({r.begin, r.end});
    return chat;
  } catch (const jinja::TemplateError& error) {
    fail("{}: chat template, {}: {}", impl_->where, place_of(impl_->program->source, error.offset),
         error.what());
  }
}

bool ChatTemplate::has_generation_spans() const {
  return impl_->program->has_generation;
}

}  // namespace serval
