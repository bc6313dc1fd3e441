#include "text/tokenizer.h"

#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "base/parallel.h"
#include "base/text.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/parts.h"
#include "text/tokenizer/word_cache.h"

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
  class WordReader;
  // Words that a thread keeps are known by this number.
  const uint32_t serial = [] {
    static std::atomic<uint32_t> next = 1;
    return next.fetch_add(1);
  }();
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

// The model over the pieces of one text, with the words that this thread knows already.
class Tokenizer::Impl::WordReader {
 public:
  WordReader(const Impl& impl, Pieces& pieces, std::vector<PlacedToken>& tokens)
      : model_(*impl.parts.model),
        vocabulary_(model_.vocabulary()),
        pieces_(pieces),
        tokens_(tokens),
        cache_(WordCache::of_this_thread()),
        owner_(impl.serial * 2),
        texts_(impl.parts.post_processor->reads_text()) {}

  void read(const WordScan& scan) {
    for (const Piece& cut : pieces_.list()) {
      if (cut.token >= 0) {
        finish();
        tokens_.push_back({cut.token, pieces_.span(cut, 0, cut.text.size()), cut.text});
      } else if (scan.word_end != nullptr) {
        for (size_t begin = 0, end; begin < cut.text.size(); begin = end) {
          end = scan.word_end(cut.text, begin);
          word(cut, begin, end, scan.byte_level);
        }
      } else if (cut.byte_level && model_.reads_bytes()) {
        word(cut, 0, cut.text.size(), /*byte_level=*/true);
      } else {
        Piece spelled;
        if (cut.byte_level) spelled = pieces_.spelled_in_byte_characters(cut);
        const Piece& piece = cut.byte_level ? spelled : cut;
        for (size_t begin = 0, end; begin < piece.text.size(); begin = end) {
          end = model_.next_cut(piece.text, begin);
          word(piece, begin, end, /*byte_level=*/false);
        }
        if (cut.byte_level) finish();  // before `spelled` goes
      }
    }
    finish();
  }

 private:
  struct Word {
    const Piece* piece = nullptr;  // null: none
    size_t begin = 0, end = 0;
    bool byte_level = false;
    uint32_t owner = 0;
    WordCache::Key key{};
    bool is_short() const { return end - begin <= WordCache::kMaxWord; }
  };

  // While the memory that a word needs is on its way, the word before is finished.
  void word(const Piece& piece, size_t begin, size_t end, bool byte_level) {
    Word& next = words_[1 - waiting_];
    next.piece = &piece;
    next.begin = begin;
    next.end = end;
    next.byte_level = byte_level;
    next.owner = owner_ + (byte_level ? 1 : 0);
    if (next.is_short()) {
      const char* readable_end = piece.text.data() + piece.text.size();
      next.key = WordCache::key_of(piece.text.substr(begin, end - begin), readable_end);
      cache_.prefetch(next.key, next.owner);
    }
    finish();
    waiting_ = 1 - waiting_;
  }

  void finish() {
    Word& waiting = words_[waiting_];
    if (waiting.piece == nullptr) return;
    const Piece& piece = *std::exchange(waiting.piece, nullptr);
    const std::string_view word = piece.text.substr(waiting.begin, waiting.end - waiting.begin);
    if (waiting.is_short()) {
      if (const WordCache::Entry* known = cache_.find(waiting.key, waiting.owner)) {
        for (size_t i = 0; i < known->count; ++i)
          put(piece, waiting.begin, {known->id[i], known->begin[i], known->end[i]});
        return;
      }
    }
    model_tokens_.clear();
    model_.tokenize(word, waiting.byte_level, model_tokens_);
    for (ModelToken& token : model_tokens_) {
      // A token may hold a part of a character; its span is the whole character.
      token.end = std::min(token.end, static_cast<uint32_t>(word.size()));
      while (token.begin > 0 && token.begin < word.size() && is_continuation(word[token.begin]))
        --token.begin;
      while (token.end < word.size() && is_continuation(word[token.end])) ++token.end;
      put(piece, waiting.begin, token);
    }
    if (waiting.is_short()) cache_.put(waiting.key, waiting.owner, model_tokens_);
  }

  void put(const Piece& piece, size_t word_begin, const ModelToken& token) {
    const size_t begin = word_begin + token.begin, end = word_begin + token.end;
    const auto offset = static_cast<int32_t>(piece.text.data() - pieces_.input().data());
    InputSpan span;
    if (begin >= end) {
      const int32_t origin =
          piece.spans != nullptr ? piece.spans[word_begin].begin : offset + static_cast<int32_t>(word_begin);
      span = {origin, origin};
    } else if (piece.spans != nullptr) {
      span = {piece.spans[begin].begin, piece.spans[end - 1].end};
    } else {
      span = {offset + static_cast<int32_t>(begin), offset + static_cast<int32_t>(end)};
    }
    std::string_view text;
    if (texts_)
      text = token.id == model_.surface_id() ? piece.text.substr(begin, end - begin)
                                             : vocabulary_.text(token.id);
    tokens_.push_back({token.id, span, text});
  }

  const TokenModel& model_;
  const TokenTable& vocabulary_;
  Pieces& pieces_;
  std::vector<PlacedToken>& tokens_;
  WordCache& cache_;
  uint32_t owner_;
  bool texts_;
  Word words_[2];
  size_t waiting_ = 0;  // of words_
  std::vector<ModelToken> model_tokens_;
};

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, const Json& tokenizer_config,
                               const std::string& where) {
  return from_parts(parts_from_tokenizer_json(std::string(tokenizer_json), tokenizer_config, where));
}

Tokenizer Tokenizer::from_parts(TokenizerParts parts) {
  SERVAL_CHECK(parts.model != nullptr);
  auto impl = std::make_unique<Impl>();
  for (const AddedToken& token : parts.added_tokens) impl->added.add(token);
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
    std::vector<SpelledToken> before, behind;
    if (adds("add_bos_token") && impl->bos)
      before.push_back({*config_token(config, "bos_token"), *impl->bos});
    if (adds("add_eos_token") && impl->eos)
      behind.push_back({*config_token(config, "eos_token"), *impl->eos});
    impl->parts.post_processor = make_wrapping_post_processor(before, behind);
    impl->parts.ends_as_configured = true;
  }
  return Tokenizer(std::move(impl));
}

Encoding Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  struct Scratch {
    Pieces pieces;
    PlacedTokens tokens;
  };
  thread_local Scratch scratch;
  const ValidUtf8 valid(text);
  Pieces& pieces = scratch.pieces;
  std::vector<PlacedToken>& tokens = scratch.tokens.list;
  pieces.reset(valid.text());
  tokens.clear();
  scratch.tokens.part_ends.clear();
  impl_->added.split_raw(pieces, options.parse_special_tokens);
  if (impl_->parts.normalizer != nullptr)
    pieces.split_each([&](const Piece& piece, std::vector<Piece>& out) {
      out.push_back(impl_->parts.normalizer->apply(pieces, piece));
    });
  impl_->added.split_normalized(pieces, options.parse_special_tokens);
  WordScan scan;
  if (impl_->parts.pre_tokenizer != nullptr) {
    scan = impl_->parts.pre_tokenizer->scan();
    if (scan.byte_level && !impl_->parts.model->reads_bytes()) scan = {};
    if (scan.word_end == nullptr) impl_->parts.pre_tokenizer->apply(pieces);
  }
  Impl::WordReader(*impl_, pieces, tokens).read(scan);
  impl_->parts.post_processor->apply(valid.text(), scratch.tokens, options.add_special_tokens);
  Encoding encoding;
  encoding.ids.resize(tokens.size());
  encoding.spans.resize(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto& [id, span, token_text] = tokens[i];
    encoding.ids[i] = id;
    encoding.spans[i] = {valid.input_offset(span.begin), valid.input_offset(span.end)};
  }
  // A thread keeps what texts of common length need, not more.
  if (text.size() > (size_t{1} << 20)) scratch = Scratch();
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
      if (!(skip_special_tokens && impl_->added.is_skipped(*added)))
        tokens.emplace_back(impl_->added.decoded_text(*added));
    } else if (impl_->parts.model->vocabulary().has_id(id)) {
      tokens.emplace_back(impl_->parts.model->vocabulary().text(id));
    }
  }
  if (impl_->parts.decoder == nullptr) return join(tokens, " ");
  impl_->parts.decoder->apply(tokens);
  return join(tokens, "");
}

std::pair<Tokenizer, std::vector<int32_t>> Tokenizer::with_added_tokens(
    std::span<const NewToken> tokens) const {
  TokenizerParts parts = impl_->parts;
  std::vector<int32_t> ids;
  int64_t next = vocab_size();
  for (const NewToken& token : tokens) {
    if (token.content.empty()) fail("{}: an added token is empty", parts.where);
    std::optional<int32_t> id = token_to_id(token.content);
    const auto twice = std::find_if(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(ids.size()),
                                    [&](const NewToken& other) { return other.content == token.content; });
    if (twice != tokens.begin() + static_cast<ptrdiff_t>(ids.size())) {
      ids.push_back(ids[static_cast<size_t>(twice - tokens.begin())]);
      continue;  // the first one counts
    }
    if (!id && next > TokenTable::kMaxId) fail("{}: no id is left for '{}'", parts.where, token.content);
    if (!id) id = static_cast<int32_t>(next++);
    ids.push_back(*id);
    // They are looked for in the text as it is written: what normalizes it may change a token too.
    if (impl_->added.id_of(token.content) < 0)
      parts.added_tokens.push_back(
          {.id = *id, .content = token.content, .normalized = false, .special = token.special});
  }
  parts.changed = true;
  return {from_parts(std::move(parts)), std::move(ids)};
}

Tokenizer Tokenizer::with_named_tokens(std::span<const NamedToken> tokens) const {
  TokenizerParts parts = impl_->parts;
  for (const NamedToken& token : tokens) {
    if (!token_to_id(token.content))
      fail("{}: {} cannot be the {}: it is no token; add it first (new_special_tokens)", parts.where,
           in_quotes(token.content), token.role);
    parts.config.set(token.role, token.content);
    parts.changed = true;
  }
  if (parts.ends_as_configured) parts.post_processor = nullptr;
  return from_parts(std::move(parts));
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

const TokenizerParts& Tokenizer::parts() const {
  return impl_->parts;
}

const std::vector<std::string>& Tokenizer::notes() const {
  return impl_->parts.notes;
}

}  // namespace serval
