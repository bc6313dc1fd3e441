#include "text/tokenizer.h"

#include <simdjson.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/post_processor.h"
#include "text/tokenizer/pre_tokenizer.h"

namespace serval {

struct Tokenizer::Impl {
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::unique_ptr<BpeModel> model;
  std::unique_ptr<PostProcessor> post_processor;  // never null
  std::unique_ptr<Decoder> decoder;
  AddedTokens added;
  Json config = Json::object();
  std::optional<int32_t> bos, eos, pad;

  std::optional<int32_t> token_to_id(std::string_view token) const {
    int32_t id = added.id_of(token);
    if (id < 0) id = model->vocabulary().find(token);
    return id < 0 ? std::nullopt : std::optional<int32_t>(id);
  }
  void tokenize(Pieces& pieces, std::vector<PlacedToken>& tokens) const;
};

namespace {

using simdjson::dom::element;

constexpr size_t kMaxDepth = 64;
constexpr int64_t kMaxFileBytes = int64_t{1} << 29;

// A small section as our own Json; null where the file has none.
Json section(const simdjson::dom::object& object, std::string_view key, const std::string& where) {
  element value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) return Json();
  return Json::parse(simdjson::minify(value), where + ": " + std::string(key));
}

// Json's accessors know only the value that is wrong; the file and the section are named here.
template <class Make>
auto in_section(const std::string& where, const Make& make) {
  try {
    return make();
  } catch (const UserError& error) {
    if (starts_with(error.what(), where)) throw;
    fail("{}: {}", where, error.what());
  }
}

bool flag(const Json& value, std::string_view key) {
  const Json* found = value.find(key);
  return found != nullptr && !found->is_null() && found->as_bool();
}

std::string text_or_empty(const Json& value, std::string_view key) {
  const Json* found = value.find(key);
  return found == nullptr || found->is_null() ? std::string() : found->as_string();
}

int32_t checked_id(int64_t id, std::string_view token, const std::string& where) {
  if (id < 0 || id > TokenTable::kMaxId) fail("{}: the token '{}' has the id {}", where, token, id);
  return static_cast<int32_t>(id);
}

TokenTable read_vocabulary(const simdjson::dom::object& model, const std::string& where) {
  simdjson::dom::object vocab;
  if (model.at_key("vocab").get(vocab) != simdjson::SUCCESS)
    fail("{}: model.vocab is missing or no object", where);
  TokenTable table;
  table.reserve(vocab.size());
  for (const auto field : vocab) {
    int64_t id = -1;
    if (field.value.get(id) != simdjson::SUCCESS)
      fail("{}: model.vocab: the id of '{}' is not an integer", where, field.key);
    table.add(field.key, checked_id(id, field.key, where + ": model.vocab"));
  }
  return table;
}

void read_merges(const simdjson::dom::object& model, BpeModel& bpe, const std::string& where) {
  simdjson::dom::array merges;
  if (model.at_key("merges").get(merges) != simdjson::SUCCESS)
    fail("{}: model.merges is missing or no list", where);
  bpe.reserve_merges(merges.size());
  int64_t rank = 0;
  for (const element merge : merges) {
    std::string_view line, left, right;
    simdjson::dom::array pair;
    if (merge.get(line) == simdjson::SUCCESS) {
      if (starts_with(line, "#version")) continue;
      bpe.add_merge(line, rank);
    } else if (merge.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
               pair.at(0).get(left) == simdjson::SUCCESS && pair.at(1).get(right) == simdjson::SUCCESS) {
      bpe.add_merge(left, right, rank);
    } else {
      fail("{}: model.merges[{}]: expected \"a b\" or [\"a\", \"b\"]", where, rank);
    }
    ++rank;
  }
}

std::unique_ptr<BpeModel> read_model(const simdjson::dom::object& root, const std::string& where) {
  simdjson::dom::object model;
  if (root.at_key("model").get(model) != simdjson::SUCCESS)
    fail("{}: the section \"model\" is missing", where);
  // The small settings, without the vocabulary.
  Json settings = Json::object();
  for (const char* key : {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                          "fuse_unk", "byte_fallback", "ignore_merges"})
    settings.set(key, section(model, key, where + ": model"));
  const std::string type = text_or_empty(settings, "type");
  // Old files do not name the type; only BPE has merges.
  element merges;
  const bool has_merges = model.at_key("merges").get(merges) == simdjson::SUCCESS;
  if (type != "BPE" && !(type.empty() && has_merges))
    fail("{}: the model '{}' is not supported, only BPE is", where, type.empty() ? "without a type" : type);
  BpeOptions options{.unk_token = text_or_empty(settings, "unk_token"),
                     .continuing_subword_prefix = text_or_empty(settings, "continuing_subword_prefix"),
                     .end_of_word_suffix = text_or_empty(settings, "end_of_word_suffix"),
                     .fuse_unk = flag(settings, "fuse_unk"),
                     .byte_fallback = flag(settings, "byte_fallback"),
                     .ignore_merges = flag(settings, "ignore_merges")};
  if (const Json& dropout = settings.at("dropout"); !dropout.is_null() && dropout.as_double() != 0.0)
    fail("{}: model.dropout is {}, but random merges are not supported", where, dropout.dump());
  auto bpe = std::make_unique<BpeModel>(read_vocabulary(model, where), std::move(options), where);
  read_merges(model, *bpe, where);
  return bpe;
}

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

// "bos_token" and so on: a string, or {"content": string}.
std::optional<std::string> config_token(const Json& config, std::string_view key) {
  const Json* value = config.find(key);
  if (value != nullptr && value->is_object()) value = value->find("content");
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return value->as_string();
}

}  // namespace

void Tokenizer::Impl::tokenize(Pieces& pieces, std::vector<PlacedToken>& tokens) const {
  std::vector<ModelToken> model_tokens;
  for (const Piece& cut : pieces.list()) {
    if (cut.token >= 0) {
      tokens.push_back({cut.token, pieces.span(cut, 0, cut.text.size()), cut.text});
      continue;
    }
    const Piece piece =
        cut.byte_level && !model->reads_bytes() ? pieces.spelled_in_byte_characters(cut) : cut;
    model_tokens.clear();
    model->tokenize(piece.text, piece.byte_level, model_tokens);
    for (const ModelToken& token : model_tokens)
      tokens.push_back(
          {token.id, pieces.span(piece, token.begin, token.end), model->vocabulary().text(token.id)});
  }
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_directory(const std::string& directory) {
  const std::string path = join_path(directory, "tokenizer.json");
  if (!file_exists(path))
    fail(
        "{}: no tokenizer.json here; other tokenizer files are not supported, convert them with Hugging Face "
        "transformers (save_pretrained)",
        directory);
  const std::string config_path = join_path(directory, "tokenizer_config.json");
  const Json config =
      file_exists(config_path) ? Json::parse(read_file(config_path, 64 << 20), config_path) : Json::object();
  if (!config.is_object()) fail("{}: expected an object, found a {}", config_path, config.type_name());
  return from_json(read_file(path, kMaxFileBytes), config, path);
}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, const Json& tokenizer_config,
                               const std::string& where) {
  simdjson::dom::parser parser;
  if (static_cast<int64_t>(tokenizer_json.size()) > kMaxFileBytes ||
      parser.allocate(std::max<size_t>(tokenizer_json.size(), 32), kMaxDepth) != simdjson::SUCCESS)
    fail("{}: {} bytes of JSON are too many", where, tokenizer_json.size());
  simdjson::dom::element document;
  const simdjson::padded_string padded(tokenizer_json);
  if (const auto error = parser.parse(padded).get(document); error != simdjson::SUCCESS)
    fail("{}: not valid JSON: {}", where, simdjson::error_message(error));
  simdjson::dom::object root;
  if (document.get(root) != simdjson::SUCCESS) fail("{}: expected an object", where);

  auto impl = std::make_unique<Impl>();
  impl->config = tokenizer_config;
  impl->model = in_section(where, [&] { return read_model(root, where); });
  const auto part = [&](const char* key, auto make) {
    const std::string here = where + ": " + key;
    return in_section(here, [&] { return make(section(root, key, where), here); });
  };
  impl->normalizer = part("normalizer", make_normalizer);
  impl->pre_tokenizer = part("pre_tokenizer", make_pre_tokenizer);
  impl->post_processor = part("post_processor", make_post_processor);
  impl->decoder = part("decoder", make_decoder);
  part("added_tokens", [&](const Json& tokens, const std::string& here) {
    if (tokens.is_null()) return 0;
    for (const Json& token : tokens.as_array()) impl->added.add(read_added_token(token, here));
    impl->added.finish(impl->normalizer.get());
    return 0;
  });

  const auto id_named = [&](std::string_view key) {
    const auto name = config_token(tokenizer_config, key);
    return name ? impl->token_to_id(*name) : std::nullopt;
  };
  impl->bos = id_named("bos_token");
  impl->eos = id_named("eos_token");
  impl->pad = id_named("pad_token");
  // A file with a post-processor says itself what is added; the settings of the config are for one without.
  if (impl->post_processor == nullptr)
    impl->post_processor = in_section(where + ": tokenizer_config", [&] {
      std::vector<int32_t> before, behind;
      if (flag(tokenizer_config, "add_bos_token") && impl->bos) before.push_back(*impl->bos);
      if (flag(tokenizer_config, "add_eos_token") && impl->eos) behind.push_back(*impl->eos);
      return make_wrapping_post_processor(std::move(before), std::move(behind));
    });
  return Tokenizer(std::move(impl));
}

Encoding Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const ValidUtf8 valid(text);
  Pieces pieces(valid.text());
  impl_->added.split_raw(pieces, options.parse_special_tokens);
  if (impl_->normalizer != nullptr)
    pieces.split_each([&](const Piece& piece, std::vector<Piece>& out) {
      out.push_back(impl_->normalizer->apply(pieces, piece));
    });
  impl_->added.split_normalized(pieces, options.parse_special_tokens);
  if (impl_->pre_tokenizer != nullptr) impl_->pre_tokenizer->apply(pieces);
  std::vector<PlacedToken> tokens;
  tokens.reserve(valid.text().size() / 3 + 4);
  impl_->tokenize(pieces, tokens);
  impl_->post_processor->apply(valid.text(), tokens, options.add_special_tokens);
  Encoding encoding;
  encoding.ids.reserve(tokens.size());
  encoding.spans.reserve(tokens.size());
  for (const PlacedToken& token : tokens) {
    encoding.ids.push_back(token.id);
    encoding.spans.push_back({valid.input_offset(token.span.begin), valid.input_offset(token.span.end)});
  }
  return encoding;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (const AddedToken* added = impl_->added.find(id)) {
      if (!(skip_special_tokens && added->special)) tokens.emplace_back(impl_->added.decoded_text(*added));
    } else if (impl_->model->vocabulary().has_id(id)) {
      tokens.emplace_back(impl_->model->vocabulary().text(id));
    }
  }
  if (impl_->decoder == nullptr) return join(tokens, " ");
  impl_->decoder->apply(tokens);
  return join(tokens, "");
}

int64_t Tokenizer::vocab_size() const {
  return std::max(impl_->model->vocabulary().id_end(), impl_->added.id_end());
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  return impl_->token_to_id(token);
}

std::string Tokenizer::id_to_token(int32_t id) const {
  if (const AddedToken* added = impl_->added.find(id)) return added->content;
  return std::string(impl_->model->vocabulary().text(id));
}

bool Tokenizer::is_special(int32_t id) const {
  const AddedToken* added = impl_->added.find(id);
  return added != nullptr && added->special;
}

std::optional<int32_t> Tokenizer::bos_id() const {
  return impl_->bos;
}
std::optional<int32_t> Tokenizer::eos_id() const {
  return impl_->eos;
}
std::optional<int32_t> Tokenizer::pad_id() const {
  return impl_->pad;
}
const Json& Tokenizer::config() const {
  return impl_->config;
}

}  // namespace serval
