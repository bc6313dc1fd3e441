// The tokenizer.json of Hugging Face: its sections become TokenizerParts.
#include <simdjson.h>

#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "base/text.h"
#include "text/tokenizer/json_section.h"
#include "text/tokenizer/model_json.h"
#include "text/tokenizer/parts.h"

namespace serval {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr int64_t kMaxFileBytes = int64_t{1} << 29;

AddedToken read_added_token(const Json& value, const std::string& where) {
  AddedToken token;
  token.content = value.at("content").as_string();
  token.id = checked_id(value.at("id").as_int(), token.content, where);
  token.single_word = flag(value, "single_word");
  token.lstrip = flag(value, "lstrip");
  token.rstrip = flag(value, "rstrip");
  token.normalized = flag(value, "normalized");
  token.special = flag(value, "special");
  return token;
}

// The package numbers added tokens itself: those of the vocabulary have its ids, the others follow in the
// order of the file.
void number_added_tokens(TokenizerParts& parts) {
  const TokenTable& vocabulary = parts.model->vocabulary();
  std::unordered_map<std::string_view, int32_t> known;
  int64_t next = vocabulary.size();
  std::vector<std::string> changed;
  for (AddedToken& token : parts.added_tokens) {
    if (token.content.empty()) continue;
    int64_t id = vocabulary.find(token.content);
    if (const auto before = known.find(token.content); before != known.end()) id = before->second;
    if (id < 0) id = next;
    next = std::max(next, id + 1);
    if (id != token.id) changed.push_back(fmt::format("'{}' {} instead of {}", token.content, id, token.id));
    token.id = checked_id(id, token.content, parts.where + ": added_tokens");
    known.emplace(token.content, token.id);
  }
  if (!changed.empty())
    parts.notes.push_back(fmt::format(
        "{}: added_tokens: ids that do not follow the vocabulary are not kept, as in "
        "tokenizers: {}{}",
        parts.where, changed[0], changed.size() > 1 ? fmt::format(" and {} more", changed.size() - 1) : ""));
}

}  // namespace

TokenizerParts parts_from_tokenizer_json(std::string tokenizer_json, const Json& tokenizer_config,
                                         const std::string& where) {
  simdjson::dom::parser parser;
  if (static_cast<int64_t>(tokenizer_json.size()) > kMaxFileBytes ||
      parser.allocate(std::max<size_t>(tokenizer_json.size(), 32), kMaxDepth) != simdjson::SUCCESS)
    fail("{}: {} bytes of JSON are too many", where, tokenizer_json.size());
  simdjson::dom::element document;
  tokenizer_json.reserve(tokenizer_json.size() + simdjson::SIMDJSON_PADDING);
  if (const auto error =
          parser.parse(tokenizer_json.data(), tokenizer_json.size(), /*realloc_if_needed=*/false)
              .get(document);
      error != simdjson::SUCCESS)
    fail("{}: not valid JSON: {}", where, simdjson::error_message(error));
  simdjson::dom::object root;
  if (document.get(root) != simdjson::SUCCESS) fail("{}: expected an object", where);

  TokenizerParts parts;
  parts.where = where;
  parts.config = tokenizer_config;
  simdjson::dom::object model;
  if (root.at_key("model").get(model) != simdjson::SUCCESS)
    fail("{}: the section \"model\" is missing", where);
  parts.model = in_section(where, [&] { return make_token_model(model, where); });
  const auto part = [&](const char* key, auto make) {
    const std::string here = where + ": " + key;
    return in_section(here, [&] { return make(section(root, key, where), here); });
  };
  parts.normalizer = part("normalizer", make_normalizer);
  parts.pre_tokenizer = part("pre_tokenizer", make_pre_tokenizer);
  parts.post_processor = part("post_processor", make_post_processor);
  parts.decoder = part("decoder", make_decoder);
  part("added_tokens", [&](const Json& tokens, const std::string& here) {
    if (tokens.is_null()) return 0;
    for (const Json& token : tokens.as_array()) parts.added_tokens.push_back(read_added_token(token, here));
    return 0;
  });
  number_added_tokens(parts);
  for (const char* key : {"truncation", "padding"})
    if (!section(root, key, where).is_null())
      parts.notes.push_back(fmt::format(
          "{}: the section \"{}\" is ignored; texts are never cut or filled up here", where, key));
  return parts;
}

}  // namespace serval
