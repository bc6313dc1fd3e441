#include "text/tokenizer_files.h"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer/parts.h"

namespace serval {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 29;
constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

struct TextRange {
  size_t begin = 0, end = 0;
};

size_t skip_blanks(std::string_view text, size_t at) {
  return std::min(text.find_first_not_of(" \t\r\n", at), text.size());
}

// The end of the string that begins at `at`.
size_t string_end(std::string_view text, size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at)
    if (text[at] == '\\') ++at;
  return std::min(at + 1, text.size());
}

size_t value_end(std::string_view text, size_t at) {
  int depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = string_end(text, at);
      if (depth == 0) return at;
      continue;
    }
    if (depth == 0 && (c == ',' || c == '}' || c == ']')) return at;
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && --depth == 0) return at + 1;
    ++at;
  }
  return at;
}

// The value of a key of the outermost object, in the text of a file that is known to be JSON.
std::optional<TextRange> find_member(std::string_view text, std::string_view key) {
  size_t at = skip_blanks(text, 0);
  if (at >= text.size() || text[at] != '{') return std::nullopt;
  for (at = skip_blanks(text, at + 1); at < text.size() && text[at] == '"';) {
    const size_t name_end = string_end(text, at);
    const std::string_view name = text.substr(at + 1, name_end - at - 2);
    const size_t begin = skip_blanks(text, skip_blanks(text, name_end) + 1), end = value_end(text, begin);
    if (name == key) return TextRange{begin, end};
    at = skip_blanks(text, end);
    if (at >= text.size() || text[at] != ',') break;
    at = skip_blanks(text, at + 1);
  }
  return std::nullopt;
}

std::string added_token_json(const AddedToken& token, bool lines) {
  const auto line = [&](const char* key, const std::string& value, bool last = false) {
    return (lines ? "      " : "") + json_quote(key) + (lines ? ": " : ":") + value + (last ? "" : ",") +
           (lines ? "\n" : "");
  };
  const auto flag = [](bool value) { return std::string(value ? "true" : "false"); };
  return (lines ? "    {\n" : "{") + line("id", std::to_string(token.id)) +
         line("content", json_quote(token.content)) + line("single_word", flag(token.single_word)) +
         line("lstrip", flag(token.lstrip)) + line("rstrip", flag(token.rstrip)) +
         line("normalized", flag(token.normalized)) + line("special", flag(token.special), true) +
         (lines ? "    }" : "}");
}

// The added tokens that can be found: of those with one id or one text, the last.
std::vector<const AddedToken*> tokens_in_use(const TokenizerParts& parts) {
  std::vector<const AddedToken*> tokens;
  std::unordered_set<int32_t> ids;
  std::unordered_set<std::string_view> texts;
  for (auto token = parts.added_tokens.rbegin(); token != parts.added_tokens.rend(); ++token)
    if (!token->content.empty() && !ids.contains(token->id) && !texts.contains(token->content)) {
      ids.insert(token->id);
      texts.insert(token->content);
      tokens.push_back(&*token);
    }
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

int64_t tokens_in(const TokenTable& table) {
  int64_t count = 0;
  for (int32_t id = 0; id < table.id_end(); ++id)
    count += table.has_id(id) && table.find(table.text(id)) == id;
  return count;
}

// `tokenizers` disregards the ids of the list: a token that the model does not know gets the id behind all
// others, in the order of the list.
bool ids_follow_from_order(const TokenTable& vocabulary, const std::vector<const AddedToken*>& tokens) {
  const int64_t size = tokens_in(vocabulary);
  int64_t largest = -1;
  for (const AddedToken* token : tokens) {
    int64_t id = vocabulary.find(token->content);
    if (id < 0) id = largest >= size ? largest + 1 : size;
    if (id != token->id) return false;
    largest = std::max(largest, id);
  }
  return true;
}

std::string whole_json(const TokenizerParts& parts) {
  const std::vector<const AddedToken*> tokens = tokens_in_use(parts);
  const TokenTable& vocabulary = parts.model->vocabulary();
  std::vector<std::pair<std::string, int32_t>> more;
  if (!ids_follow_from_order(vocabulary, tokens))
    for (const AddedToken* token : tokens)
      if (vocabulary.find(token->content) < 0) more.emplace_back(token->content, token->id);
  std::string out =
      "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"
      "  \"added_tokens\": [";
  for (size_t i = 0; i < tokens.size(); ++i)
    out += (i == 0 ? "\n" : ",\n") + added_token_json(*tokens[i], /*lines=*/true);
  out += tokens.empty() ? "],\n" : "\n  ],\n";
  const auto section = [&](const char* key, const JsonPart* part) {
    out += "  " + json_quote(key) + ": " + (part == nullptr ? "null" : part->json().dump()) + ",\n";
  };
  section("normalizer", parts.normalizer.get());
  section("pre_tokenizer", parts.pre_tokenizer.get());
  section("post_processor",
          parts.ends_as_configured && parts.tokens_of_json_file >= 0 ? nullptr : parts.post_processor.get());
  section("decoder", parts.decoder.get());
  out += "  \"model\": ";
  const bool whole = parts.pre_tokenizer != nullptr && parts.pre_tokenizer->finds_tokens();
  parts.model->write_json(out, {.more_tokens = more, .takes_whole_pieces = whole});
  return out + "\n}\n";
}

// The source's own text with the new tokens at the end of its list; nullopt where that would not do.
std::optional<std::string> file_with_tokens(const TokenizerParts& parts) {
  std::string text = read_file(parts.where, kMaxFileBytes);
  const auto count = static_cast<size_t>(parts.tokens_of_json_file);
  if (parts.added_tokens.size() == count) return text;
  std::vector<const AddedToken*> tokens;
  for (const AddedToken& token : parts.added_tokens) tokens.push_back(&token);
  const auto list = find_member(text, "added_tokens");
  if (!list || text[list->begin] != '[' || !ids_follow_from_order(parts.model->vocabulary(), tokens))
    return std::nullopt;
  const std::string_view old = std::string_view(text).substr(list->begin, list->end - list->begin);
  const bool empty = skip_blanks(old, 1) == old.size() - 1, lines = old.find('\n') != std::string_view::npos;
  std::string added;
  for (size_t i = count; i < parts.added_tokens.size(); ++i)
    added += (i == count && empty ? ""
              : lines             ? ",\n"
                                  : ",") +
             added_token_json(parts.added_tokens[i], lines);
  const size_t last = old.find_last_not_of(" \t\r\n", old.size() - 2);
  text.insert(list->begin + last + 1, added);
  return text;
}

Json config_entry(const AddedToken& token) {
  return Json(Json::Object{{"content", token.content},
                           {"lstrip", token.lstrip},
                           {"normalized", token.normalized},
                           {"rstrip", token.rstrip},
                           {"single_word", token.single_word},
                           {"special", token.special}});
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

// tokenizer_config.json for a tokenizer.json that was made of another kind of file: what only that kind's
// class understands is left out.
Json config_of_converted(const TokenizerParts& parts) {
  Json config = parts.config;
  for (const char* key : {"add_bos_token", "add_eos_token", "add_prefix_space", "added_tokens_decoder",
                          "auto_map", "extra_ids", "legacy", "sp_model_kwargs", "tokenizer_file",
                          "vocab_file", "merges_file", "backend", "is_local", "use_default_system_prompt"})
    config.erase(key);
  config.set("tokenizer_class", "PreTrainedTokenizerFast");
  if (!config.contains("clean_up_tokenization_spaces")) config.set("clean_up_tokenization_spaces", false);
  return config;
}

Json read_object(const std::string& path) {
  Json json = Json::parse(read_file(path, int64_t{64} << 20), path);
  if (!json.is_object()) fail("{}: expected an object, found a {}", path, json.type_name());
  return json;
}

}  // namespace

std::string tokenizer_json(const Tokenizer& tokenizer) {
  const TokenizerParts& parts = tokenizer.parts();
  if (parts.tokens_of_json_file >= 0)
    if (auto text = file_with_tokens(parts)) return *text;
  return whole_json(parts);
}

void write_tokenizer(const Tokenizer& tokenizer, const std::string& directory) {
  const TokenizerParts& parts = tokenizer.parts();
  const bool from_json = parts.tokens_of_json_file >= 0;
  const std::string source = directory_of(parts.where);
  write_file_atomically(join_path(directory, "tokenizer.json"), tokenizer_json(tokenizer));
  Json config = from_json ? parts.config : config_of_converted(parts);
  const auto first = static_cast<size_t>(std::max<int64_t>(0, parts.tokens_of_json_file));
  if (Json* decoder = config.find("added_tokens_decoder"); decoder != nullptr && decoder->is_object())
    for (size_t i = first; i < parts.added_tokens.size(); ++i)
      decoder->set(std::to_string(parts.added_tokens[i].id), config_entry(parts.added_tokens[i]));
  const std::string config_name = "tokenizer_config.json", config_path = join_path(source, config_name);
  const bool as_it_was = from_json && file_exists(config_path) && read_object(config_path) == config;
  if (as_it_was)
    write_file_atomically(join_path(directory, config_name), read_file(config_path));
  else if (!from_json || config.size() > 0)
    write_file_atomically(join_path(directory, config_name), config.dump(2) + "\n");
  if (const std::string path = join_path(source, "special_tokens_map.json"); file_exists(path)) {
    Json map = read_object(path);
    for (const char* role : kRoles)
      if (const Json* now = parts.config.find(role); now != nullptr && !now->is_null()) map.set(role, *now);
    write_file_atomically(join_path(directory, "special_tokens_map.json"), map.dump(2) + "\n");
  }
  if (const std::string path = join_path(source, "added_tokens.json"); file_exists(path)) {
    Json added = read_object(path);
    for (size_t i = first; i < parts.added_tokens.size(); ++i)
      added.set(parts.added_tokens[i].content, static_cast<int64_t>(parts.added_tokens[i].id));
    write_file_atomically(join_path(directory, "added_tokens.json"), added.dump(2) + "\n");
  }
}

bool was_changed(const Tokenizer& tokenizer) {
  return tokenizer.parts().changed;
}

bool needs_writing(const Tokenizer& tokenizer) {
  return tokenizer.parts().changed || tokenizer.parts().only_read_here;
}

}  // namespace serval
