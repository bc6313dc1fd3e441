#include "text/template_set.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace serval {
namespace {

constexpr std::array<const char*, 7> kSpecialTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                       "pad_token", "cls_token", "mask_token"};
constexpr const char* kAdditional = "additional_chat_templates";
constexpr int64_t kMostBytes = 4 << 20;

struct Source {
  std::string name, text, where;
};

Json read_json(const std::string& directory, const char* name) {
  const std::string path = join_path(directory, name);
  return file_exists(path) ? Json::parse(read_file(path, 64 << 20), path) : Json::object();
}

// A special token in tokenizer_config.json is a string or an object with its content.
std::string token_text(const Json& token) {
  if (token.is_string()) return token.as_string();
  const Json* content = token.is_object() ? token.find("content") : nullptr;
  return content != nullptr && content->is_string() ? content->as_string() : "";
}

std::vector<Source> files_of(const std::string& directory) {
  std::vector<Source> sources;
  if (const std::string path = join_path(directory, "chat_template.jinja"); file_exists(path))
    sources.push_back({"default", read_file(path, kMostBytes), path});
  const std::string folder = join_path(directory, kAdditional);
  if (!directory_exists(folder)) return sources;
  for (const std::string& file : list_directory(folder)) {
    constexpr std::string_view kEnd = ".jinja";
    if (!file.ends_with(kEnd)) continue;
    const std::string path = join_path(folder, file);
    sources.push_back({file.substr(0, file.size() - kEnd.size()), read_file(path, kMostBytes), path});
  }
  return sources;
}

// Of a "chat_template" in a JSON file: a text, a list of {name, template}, or an object of texts.
std::vector<Source> sources_in(const Json& config, const std::string& path) {
  const Json* source = config.find("chat_template");
  if (source == nullptr || source->is_null()) return {};
  if (source->is_string()) return {{"default", source->as_string(), path}};
  std::vector<Source> sources;
  const auto add = [&](const Json* name, const Json* text) {
    if (name == nullptr || !name->is_string() || text == nullptr || !text->is_string())
      fail("{}: an entry of chat_template has no text \"name\" or \"template\"", path);
    sources.push_back({name->as_string(), text->as_string(), path});
  };
  if (source->is_object()) {
    for (const auto& [name, text] : source->as_object()) {
      const Json key(name);
      add(&key, &text);
    }
    return sources;
  }
  if (!source->is_array()) fail("{}: chat_template is neither text nor a list of templates", path);
  for (const Json& entry : source->as_array()) {
    if (!entry.is_object()) fail("{}: an entry of chat_template is no object", path);
    add(entry.find("name"), entry.find("template"));
  }
  return sources;
}

std::vector<Source> all_sources(const std::string& directory) {
  std::vector<Source> sources = files_of(directory);
  for (const char* file : {"tokenizer_config.json", "chat_template.json"})
    if (sources.empty()) sources = sources_in(read_json(directory, file), join_path(directory, file));
  return sources;
}

Json variables_of(const Json& config, const Json& map) {
  Json variables = Json::object();
  for (const char* name : kSpecialTokens) {
    const Json* token = config.find(name);
    // The older file counts only where the newer one is silent.
    if (token == nullptr) token = map.find(name);
    if (token != nullptr && !token->is_null()) variables.set(name, token_text(*token));
  }
  for (const char* group : {"extra_special_tokens", "model_specific_special_tokens"}) {
    const Json* tokens = config.find(group);
    if (tokens == nullptr || !tokens->is_object()) continue;
    for (const auto& [name, token] : tokens->as_object())
      if (!variables.contains(name)) variables.set(name, token_text(token));
  }
  return variables;
}

}  // namespace

Json template_variables(const std::string& directory) {
  return variables_of(read_json(directory, "tokenizer_config.json"),
                      read_json(directory, "special_tokens_map.json"));
}

Json template_variables_of(const Json& tokenizer_config) {
  return variables_of(tokenizer_config, Json::object());
}

std::optional<TemplateSet> TemplateSet::from_config(const Json& config, const std::string& where) {
  TemplateSet set;
  set.directory_ = where;
  const Json variables = template_variables_of(config);
  for (const Source& source : sources_in(config, where))
    set.templates_.emplace_back(source.name, ChatTemplate(source.text, variables, source.where));
  if (set.templates_.empty()) return std::nullopt;
  return set;
}

TemplateSet TemplateSet::from_directory(const std::string& directory) {
  TemplateSet set;
  set.directory_ = directory;
  const Json variables = template_variables(directory);
  for (const Source& source : all_sources(directory))
    set.templates_.emplace_back(source.name, ChatTemplate(source.text, variables, source.where));
  if (set.templates_.empty())
    fail("{}: no chat template (neither chat_template.jinja nor chat_template in tokenizer_config.json)",
         directory);
  return set;
}

bool TemplateSet::exists_in(const std::string& directory) {
  return !all_sources(directory).empty();
}

TemplateSet::TemplateSet(ChatTemplate only) : directory_(only.where()) {
  templates_.emplace_back("default", std::move(only));
}

std::vector<std::string> TemplateSet::names() const {
  std::vector<std::string> names;
  for (const auto& entry : templates_) names.push_back(entry.first);
  return names;
}

const ChatTemplate& TemplateSet::choose(const std::string& name, bool has_tools) const {
  const auto find = [&](const std::string& wanted) -> const ChatTemplate* {
    const auto at = std::find_if(templates_.begin(), templates_.end(),
                                 [&](const auto& entry) { return entry.first == wanted; });
    return at != templates_.end() ? &at->second : nullptr;
  };
  const ChatTemplate* found = nullptr;
  if (!name.empty()) {
    found = find(name);
  } else {
    if (has_tools) found = find("tool_use");
    if (found == nullptr) found = find("default");
  }
  if (found != nullptr) return *found;
  fail("{}: there is no chat template named '{}'; there are: {}", directory_, name.empty() ? "default" : name,
       join(names(), ", "));
}

ChatTemplate ChatTemplate::from_directory(const std::string& directory, const std::string& name) {
  const TemplateSet set = TemplateSet::from_directory(directory);
  return set.choose(name, false);
}

bool ChatTemplate::exists_in(const std::string& directory) {
  return TemplateSet::exists_in(directory);
}

}  // namespace serval
