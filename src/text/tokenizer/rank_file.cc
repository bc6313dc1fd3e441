#include "text/tokenizer/rank_file.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>

#include "base/base64.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/encodings.h"
#include "text/tokenizer/json_section.h"
#include "text/tokenizer/rank_merges.h"

namespace serval {
namespace {

constexpr size_t kMaxTokenBytes = 2048;

void spell_in_byte_characters(std::string_view bytes, std::string& out) {
  out.clear();
  for (const char byte : bytes) out += byte_character(static_cast<unsigned char>(byte));
}

std::string_view next_line(std::string_view& rest) {
  const size_t end = std::min(rest.find('\n'), rest.size());
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

// "aGk= 17"
bool read_line(std::string_view line, std::string& bytes, int64_t& rank) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || !decode_base64(line.substr(0, space), bytes) || bytes.empty())
    return false;
  const auto [end, error] = std::from_chars(line.data() + space + 1, line.data() + line.size(), rank);
  return error == std::errc() && end == line.data() + line.size() && rank >= 0;
}

TokenTable read_ranks(std::string_view file, const std::string& path) {
  TokenTable table;
  table.reserve(file.size() / 16);
  std::string bytes, spelled;
  int64_t number = 0;
  while (!file.empty()) {
    const std::string_view line = next_line(file);
    ++number;
    if (line.empty()) continue;
    int64_t rank = -1;
    if (!read_line(line, bytes, rank) || rank > TokenTable::kMaxId)
      fail("{}: line {}: expected base64, a blank and a rank, found {}", path, number, in_quotes(line));
    if (bytes.size() > kMaxTokenBytes)
      fail("{}: line {}: a token of {} bytes, more than any real one", path, number, bytes.size());
    spell_in_byte_characters(bytes, spelled);
    if (table.has_id(static_cast<int32_t>(rank)) || table.find(spelled) >= 0)
      fail("{}: line {}: the rank {} or its token is there twice", path, number, rank);
    table.add(spelled, static_cast<int32_t>(rank));
  }
  if (table.id_end() == 0) fail("{}: no ranks; this is no tiktoken file", path);
  return table;
}

Json byte_level_split(std::string_view pattern) {
  Json regex = Json::object(), split = Json::object(), bytes = Json::object(), sequence = Json::object();
  regex.set("Regex", pattern);
  split.set("type", "Split");
  split.set("pattern", std::move(regex));
  split.set("behavior", "Isolated");
  split.set("invert", false);
  bytes.set("type", "ByteLevel");
  bytes.set("add_prefix_space", false);
  bytes.set("trim_offsets", true);
  bytes.set("use_regex", false);
  sequence.set("type", "Sequence");
  sequence.set("pretokenizers", Json::Array{std::move(split), std::move(bytes)});
  return sequence;
}

// The vocabulary's ids in their order are the ranks.
void fill_byte_level(TokenizerParts& parts, TokenTable vocabulary, std::string_view pattern) {
  auto model =
      std::make_shared<BpeModel>(std::move(vocabulary), BpeOptions{.ignore_merges = true}, parts.where);
  if (!model->reads_bytes()) fail("{}: not every single byte is a token", parts.where);
  add_merges_by_rank(
      *model, [](int32_t id) { return id; }, parts.where);
  parts.model = std::move(model);
  parts.pre_tokenizer = make_pre_tokenizer(byte_level_split(pattern), parts.where);
  parts.decoder = make_decoder(byte_level_decoder(), parts.where);
}

AddedToken special_token(std::string content, int64_t id) {
  AddedToken token;
  token.content = std::move(content);
  token.id = static_cast<int32_t>(id);
  token.special = true;
  return token;
}

const KnownEncoding* choose_encoding(std::string_view wanted, std::string_view path,
                                     const TokenizerSettings& settings, int64_t ranks) {
  if (!wanted.empty()) return find_encoding(wanted);
  const std::string name = base_name(path);
  if (const KnownEncoding* encoding = find_encoding(std::string_view(name).substr(0, name.rfind('.'))))
    return encoding;
  if (starts_with(settings.model_type, "kimi") && ranks == 163584) return find_encoding("kimi");
  return find_encoding_by_ranks(ranks);
}

}  // namespace

bool is_known_encoding(std::string_view name) {
  return find_encoding(name) != nullptr;
}

bool looks_like_tiktoken(std::string_view bytes) {
  std::string decoded;
  int64_t rank = 0;
  return read_line(next_line(bytes), decoded, rank);
}

TokenizerParts parts_from_tiktoken(std::string_view bytes, const TiktokenOptions& options,
                                   const TokenizerSettings& settings, const std::string& path) {
  TokenizerParts parts;
  parts.where = path;
  parts.only_read_here = true;
  parts.config = settings.config;
  TokenTable vocabulary = read_ranks(bytes, path);
  const int64_t ranks = vocabulary.id_end();
  const KnownEncoding* encoding = choose_encoding(options.pattern, path, settings, ranks);
  if (encoding == nullptr && options.pattern.empty())
    fail(
        "{}: {} ranks are of no known encoding ({}), so the pattern that cuts the text is not known; name "
        "the encoding "
        "or give the pattern with --tokenizer-pattern",
        path, ranks, names_of_encodings());
  fill_byte_level(parts, std::move(vocabulary), encoding != nullptr ? encoding->pattern : options.pattern);
  if (encoding != nullptr) {
    if (encoding->nfc) parts.normalizer = make_normalizer(Json(Json::Object{{"type", "NFC"}}), path);
    parts.notes.push_back(fmt::format("{}: a tiktoken file, cut as {} does", path, encoding->name));
    // Files beside the ranks know the special tokens better than their usual list.
    if (!parts.config.contains("added_tokens_decoder"))
      for (auto& [content, id] : special_tokens_of(*encoding))
        if (id >= ranks || parts.model->vocabulary().text(id).empty())
          parts.added_tokens.push_back(special_token(std::move(content), id));
    set_defaults(parts.config, config_of(*encoding));
  }
  add_configured_tokens(parts);
  return parts;
}

TokenizerParts parts_from_tekken(std::string_view bytes, const TokenizerSettings& settings,
                                 const std::string& path) {
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  const simdjson::padded_string padded(bytes);
  if (const auto error = parser.parse(padded).get(document); error != simdjson::SUCCESS)
    fail("{}: not valid JSON: {}", path, simdjson::error_message(error));
  simdjson::dom::object root;
  simdjson::dom::array vocab;
  if (document.get(root) != simdjson::SUCCESS || root.at_key("vocab").get(vocab) != simdjson::SUCCESS)
    fail("{}: \"vocab\" is missing or no list; this is no tekken file", path);
  TokenizerParts parts;
  parts.where = path;
  parts.only_read_here = true;
  parts.config = settings.config;
  const Json config = section(root, "config", path);
  return in_section(path, [&] {
    const std::string pattern = config.at("pattern").as_string();
    const Json listed = section(root, "special_tokens", path);
    std::vector<std::string> special;
    if (listed.is_null()) {
      special = old_tekken_special_tokens();
    } else {
      special.resize(listed.as_array().size());
      for (const Json& token : listed.as_array()) {
        const int64_t rank = token.at("rank").as_int();
        if (rank < 0 || rank >= static_cast<int64_t>(special.size()) ||
            !special[static_cast<size_t>(rank)].empty())
          fail("special_tokens: the ranks are not 0 to {}, each once", special.size() - 1);
        special[static_cast<size_t>(rank)] = token.at("token_str").as_string();
      }
    }
    const auto number = [&](const char* key, int64_t otherwise) {
      const Json* value = config.find(key);
      const int64_t n = value == nullptr || value->is_null() ? otherwise : value->as_int();
      if (n < 0 || n > TokenTable::kMaxId) fail("config.{} is {}", key, n);
      return n;
    };
    const int64_t special_count =
        number("default_num_special_tokens", std::max<int64_t>(1000, static_cast<int64_t>(special.size())));
    for (auto i = static_cast<int64_t>(special.size()); i < special_count; ++i)
      special.push_back("<SPECIAL_" + std::to_string(i) + ">");
    const int64_t count = static_cast<int64_t>(vocab.size());
    const int64_t inner =
        std::min(count, number("default_vocab_size", special_count + count) - special_count);
    if (inner <= 0) fail("config.default_vocab_size leaves no token of the vocabulary");
    TokenTable table;
    table.reserve(static_cast<size_t>(inner));
    std::string decoded, spelled;
    int64_t rank = 0;
    for (const simdjson::dom::element entry : vocab) {
      if (rank == inner) break;
      std::string_view text;
      if (entry.at_key("token_bytes").get(text) != simdjson::SUCCESS || !decode_base64(text, decoded) ||
          decoded.empty() || decoded.size() > kMaxTokenBytes)
        fail("vocab[{}]: token_bytes is missing or not the base64 of 1 to {} bytes", rank, kMaxTokenBytes);
      spell_in_byte_characters(decoded, spelled);
      if (table.find(spelled) >= 0) fail("vocab[{}]: the token is there twice", rank);
      table.add(spelled, checked_id(rank++ + special_count, spelled, path));
    }
    fill_byte_level(parts, std::move(table), pattern);
    for (size_t i = 0; i < special.size(); ++i)
      parts.added_tokens.push_back(special_token(special[i], static_cast<int64_t>(i)));
    // Mistral's own tokenizer starts every text with <s>.
    set_defaults(parts.config, {{"bos_token", "<s>"},
                                {"eos_token", "</s>"},
                                {"unk_token", "<unk>"},
                                {"pad_token", "<pad>"},
                                {"add_bos_token", true}});
    add_configured_tokens(parts);
    return std::move(parts);
  });
}

}  // namespace serval
