#include "text/tokenizer/configured_tokens.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "text/tokenizer/json_section.h"

namespace serval {
namespace {

constexpr int64_t kMaxSmallFile = int64_t{64} << 20;
constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

Json read_object(const std::string& path) {
  if (!file_exists(path)) return Json::object();
  Json value = Json::parse(read_file(path, kMaxSmallFile), path);
  if (!value.is_object()) fail("{}: expected an object, found a {}", path, value.type_name());
  return value;
}

// A token as the files spell it: a string, or an object with "content" and flags.
AddedToken read_token(const Json& value, const std::string& where) {
  AddedToken token;
  if (value.is_string()) {
    token.content = value.as_string();
    token.special = true;
    return token;
  }
  token.content = value.at("content").as_string();
  token.single_word = flag(value, "single_word");
  token.lstrip = flag(value, "lstrip");
  token.rstrip = flag(value, "rstrip");
  // A token object without flags is looked for in the normalized text unless it is special.
  token.special = flag(value, "special");
  const Json* normalized = value.find("normalized");
  token.normalized = normalized != nullptr && normalized->is_bool() ? normalized->as_bool() : !token.special;
  if (token.content.empty()) fail("{}: an added token is empty", where);
  return token;
}

int64_t read_id(std::string_view text, const std::string& where) {
  int64_t id = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size())
    fail("{}: added_tokens_decoder: {} is no token id", where, in_quotes(text));
  return id;
}

class TokenAdder {
 public:
  explicit TokenAdder(TokenizerParts& parts) : parts_(parts), next_id_(parts.model->vocabulary().id_end()) {
    for (size_t i = 0; i < parts.added_tokens.size(); ++i) {
      place_[parts.added_tokens[i].content] = i;
      next_id_ = std::max(next_id_, int64_t{parts.added_tokens[i].id} + 1);
    }
  }
  bool has(const std::string& content) const { return place_.contains(content); }

  // id -1: of the vocabulary, else the next free one.
  void add(AddedToken token, int64_t id) {
    const int32_t known = parts_.model->vocabulary().find(token.content);
    if (known >= 0) id = known;
    if (id < 0) id = next_id_;
    token.id = checked_id(id, token.content, parts_.where);
    next_id_ = std::max(next_id_, id + 1);
    const auto [place, is_new] = place_.try_emplace(token.content, parts_.added_tokens.size());
    if (is_new) {
      parts_.added_tokens.push_back(std::move(token));
    } else {
      parts_.added_tokens[place->second] = std::move(token);
    }
  }
  void make_special(const std::string& content) { parts_.added_tokens[place_.at(content)].special = true; }

 private:
  TokenizerParts& parts_;
  int64_t next_id_;
  std::unordered_map<std::string, size_t> place_;
};

}  // namespace

TokenizerSettings read_tokenizer_settings(const std::string& directory) {
  TokenizerSettings settings;
  settings.config = read_object(join_path(directory, "tokenizer_config.json"));
  const std::string map_path = join_path(directory, "special_tokens_map.json");
  const Json map = read_object(map_path);
  for (const auto& [key, value] : map.as_object())
    if (!settings.config.contains(key)) settings.config.set(key, value);
  const std::string added_path = join_path(directory, "added_tokens.json");
  const Json added = read_object(added_path);
  if (!settings.config.contains("added_tokens_decoder") && added.size() > 0) {
    std::vector<std::string> special;
    for (const auto& [key, value] : settings.config.as_object()) {
      if (ends_with(key, "_token") && (value.is_string() || value.is_object()))
        special.push_back(read_token(value, map_path).content);
      if (key == "additional_special_tokens" && value.is_array())
        for (const Json& token : value.as_array()) special.push_back(read_token(token, map_path).content);
    }
    Json decoder = Json::object();
    for (const auto& [content, id] : added.as_object()) {
      const bool is_special = std::find(special.begin(), special.end(), content) != special.end();
      Json token = Json::object();
      token.set("content", content);
      token.set("special", is_special);
      token.set("normalized", !is_special);
      decoder.set(std::to_string(id.as_int()), std::move(token));
    }
    settings.config.set("added_tokens_decoder", std::move(decoder));
  }
  settings.tokenizer_class = text_or_empty(settings.config, "tokenizer_class");
  if (ends_with(settings.tokenizer_class, "Fast"))
    settings.tokenizer_class.resize(settings.tokenizer_class.size() - 4);
  const Json model = read_object(join_path(directory, "config.json"));
  if (const Json* type = model.find("model_type"); type != nullptr && type->is_string())
    settings.model_type = type->as_string();
  return settings;
}

void set_defaults(Json& config, const Json::Object& defaults) {
  for (const auto& [key, value] : defaults)
    if (!config.contains(key)) config.set(key, value);
}

void add_configured_tokens(TokenizerParts& parts) {
  TokenAdder adder(parts);
  const Json& config = parts.config;
  if (const Json* decoder = config.find("added_tokens_decoder"); decoder != nullptr && decoder->is_object()) {
    std::vector<std::pair<int64_t, AddedToken>> tokens;
    for (const auto& [id, token] : decoder->as_object())
      tokens.emplace_back(read_id(id, parts.where), read_token(token, parts.where));
    std::stable_sort(tokens.begin(), tokens.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (auto& [id, token] : tokens) adder.add(std::move(token), id);
  }
  for (const char* role : kRoles) {
    const Json* value = config.find(role);
    if (value == nullptr || !(value->is_string() || value->is_object())) continue;
    AddedToken token = read_token(*value, parts.where);
    token.special = true;
    if (token.content.empty()) continue;
    if (adder.has(token.content)) {
      adder.make_special(token.content);
    } else {
      adder.add(std::move(token), -1);
    }
  }
  // A list of tokens, or, since transformers 5, an object of names and tokens.
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const Json* value = config.find(key);
    if (value == nullptr) continue;
    const auto add = [&](const Json& entry) {
      AddedToken token = read_token(entry, parts.where);
      token.special = true;
      if (!token.content.empty() && !adder.has(token.content)) adder.add(std::move(token), -1);
    };
    if (value->is_array())
      for (const Json& entry : value->as_array()) add(entry);
    if (value->is_object())
      for (const auto& [name, entry] : value->as_object()) add(entry);
  }
}

}  // namespace serval
