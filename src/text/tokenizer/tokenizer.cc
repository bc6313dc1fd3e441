#include "text/tokenizer.h"

#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "base/parallel.h"
#include "base/text.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/parts.h"

namespace serval {

struct Tokenizer::Impl {
  TokenizerParts parts;  // post_processor is never null
  AddedTokens added;
  std::optional<int32_t> bos, eos, pad;

  std::optional<int32_t> token_to_id(std::string_view token) const {
    int32_t id = added.id_of(token);
    if (id < 0) id = parts.model->vocabulary().find(token);
    return id < 0 ? std::nullopt : std::optional<int32_t>(id);
  }
  void tokenize(Pieces& pieces, std::vector<PlacedToken>& tokens) const;
};

namespace {

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
        cut.byte_level && !parts.model->reads_bytes() ? pieces.spelled_in_byte_characters(cut) : cut;
    model_tokens.clear();
    parts.model->tokenize(piece.text, piece.byte_level, model_tokens);
    for (const ModelToken& token : model_tokens)
      tokens.push_back(
          {token.id, pieces.span(piece, token.begin, token.end), parts.model->vocabulary().text(token.id)});
  }
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, const Json& tokenizer_config,
                               const std::string& where) {
  return from_parts(parts_from_tokenizer_json(tokenizer_json, tokenizer_config, where));
}

Tokenizer Tokenizer::from_parts(TokenizerParts parts) {
  SERVAL_CHECK(parts.model != nullptr);
  auto impl = std::make_unique<Impl>();
  for (AddedToken& token : parts.added_tokens) impl->added.add(std::move(token));
  impl->added.finish(parts.normalizer.get());
  impl->parts = std::move(parts);
  const Json& config = impl->parts.config;
  const auto id_named = [&](std::string_view key) {
    const auto name = config_token(config, key);
    return name ? impl->token_to_id(*name) : std::nullopt;
  };
  impl->bos = id_named("bos_token");
  impl->eos = id_named("eos_token");
  impl->pad = id_named("pad_token");
  // A file with a post-processor says itself what is added; the settings of the config are for one without.
  if (impl->parts.post_processor == nullptr) {
    const auto adds = [&](const char* key) {
      const Json* value = config.find(key);
      if (value == nullptr || value->is_null()) return false;
      if (!value->is_bool())
        fail("{}: tokenizer_config: {}: expected true or false, found {}", impl->parts.where, key,
             value->dump());
      return value->as_bool();
    };
    std::vector<int32_t> before, behind;
    if (adds("add_bos_token") && impl->bos) before.push_back(*impl->bos);
    if (adds("add_eos_token") && impl->eos) behind.push_back(*impl->eos);
    impl->parts.post_processor = make_wrapping_post_processor(std::move(before), std::move(behind));
  }
  return Tokenizer(std::move(impl));
}

Encoding Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const ValidUtf8 valid(text);
  Pieces pieces(valid.text());
  impl_->added.split_raw(pieces, options.parse_special_tokens);
  if (impl_->parts.normalizer != nullptr)
    pieces.split_each([&](const Piece& piece, std::vector<Piece>& out) {
      out.push_back(impl_->parts.normalizer->apply(pieces, piece));
    });
  impl_->added.split_normalized(pieces, options.parse_special_tokens);
  if (impl_->parts.pre_tokenizer != nullptr) impl_->parts.pre_tokenizer->apply(pieces);
  std::vector<PlacedToken> tokens;
  tokens.reserve(valid.text().size() / 3 + 4);
  impl_->tokenize(pieces, tokens);
  impl_->parts.post_processor->apply(valid.text(), tokens, options.add_special_tokens);
  Encoding encoding;
  encoding.ids.reserve(tokens.size());
  encoding.spans.reserve(tokens.size());
  for (const PlacedToken& token : tokens) {
    encoding.ids.push_back(token.id);
    encoding.spans.push_back({valid.input_offset(token.span.begin), valid.input_offset(token.span.end)});
  }
  return encoding;
}

std::vector<Encoding> Tokenizer::encode_batch(std::span<const std::string_view> texts,
                                              const EncodeOptions& options) const {
  std::vector<Encoding> encodings(texts.size());
  // Texts differ in length, so threads take the next few as they come to them.
  constexpr size_t kAtATime = 16;
  std::atomic<size_t> next = 0;
  parallel_for(0, num_threads(), 1, [&](int64_t, int64_t) {
    for (size_t begin; (begin = next.fetch_add(kAtATime)) < texts.size();)
      for (size_t i = begin; i < std::min(begin + kAtATime, texts.size()); ++i)
        encodings[i] = encode(texts[i], options);
  });
  return encodings;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (const AddedToken* added = impl_->added.find(id)) {
      if (!(skip_special_tokens && added->special)) tokens.emplace_back(impl_->added.decoded_text(*added));
    } else if (impl_->parts.model->vocabulary().has_id(id)) {
      tokens.emplace_back(impl_->parts.model->vocabulary().text(id));
    }
  }
  if (impl_->parts.decoder == nullptr) return join(tokens, " ");
  impl_->parts.decoder->apply(tokens);
  return join(tokens, "");
}

int64_t Tokenizer::vocab_size() const {
  return std::max(impl_->parts.model->vocabulary().id_end(), impl_->added.id_end());
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  return impl_->token_to_id(token);
}

std::string Tokenizer::id_to_token(int32_t id) const {
  if (const AddedToken* added = impl_->added.find(id)) return added->content;
  return std::string(impl_->parts.model->vocabulary().text(id));
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
  return impl_->parts.config;
}

const std::vector<std::string>& Tokenizer::notes() const {
  return impl_->parts.notes;
}

}  // namespace serval
