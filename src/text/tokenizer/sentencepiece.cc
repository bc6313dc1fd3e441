#include "text/tokenizer/sentencepiece.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/base64.h"
#include "base/error.h"
#include "base/text.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/json_section.h"
#include "text/tokenizer/precompiled.h"
#include "text/tokenizer/rank_merges.h"
#include "text/tokenizer/unigram.h"

namespace serval {
namespace {

using Piece_ = SentencePieceModel::Piece;

TokenTable make_vocabulary(const SentencePieceModel& model) {
  TokenTable table;
  table.reserve(model.pieces.size());
  for (size_t id = 0; id < model.pieces.size(); ++id)
    table.add(model.pieces[id].text, static_cast<int32_t>(id));
  return table;
}

const std::string& text_of(const SentencePieceModel& model, int64_t id) {
  static const std::string none;
  return id < 0 ? none : model.pieces[static_cast<size_t>(id)].text;
}

// User-defined symbols are tokens wherever they stand, the longest first.
class SymbolSplitter final : public PreTokenizer {
 public:
  explicit SymbolSplitter(ByteTrie symbols) : symbols_(std::move(symbols)) {}
  void apply(Pieces& pieces) const override {
    pieces.split_each([&](const Piece& piece, std::vector<Piece>& out) {
      size_t done = 0;
      for (size_t at = 0; at < piece.text.size();) {
        size_t size = 0;
        const int32_t id = symbols_.longest_prefix(piece.text.substr(at), size);
        if (id < 0) {
          next_character(piece.text, at);
          continue;
        }
        if (done < at) out.push_back(pieces.slice(piece, done, at));
        Piece symbol = pieces.slice(piece, at, at + size);
        symbol.token = id;
        out.push_back(symbol);
        done = at += size;
      }
      if (done < piece.text.size()) out.push_back(pieces.slice(piece, done, piece.text.size()));
    });
  }

  bool finds_tokens() const override { return true; }

 private:
  ByteTrie symbols_;
};

ByteTrie user_defined_symbols(const SentencePieceModel& model) {
  std::vector<ByteTrie::Key> keys;
  for (size_t id = 0; id < model.pieces.size(); ++id)
    if (model.pieces[id].type == PieceType::kUserDefined)
      keys.emplace_back(model.pieces[id].text, static_cast<int32_t>(id));
  return ByteTrie(std::move(keys));
}

Json decoder_json(const SentencePieceModel& model, bool strips_first, bool byte_fallback) {
  std::string steps = R"({"type": "Replace", "pattern": {"String": "▁"}, "content": " "})";
  if (byte_fallback) steps += R"(, {"type": "ByteFallback"})";
  steps += R"(, {"type": "Fuse"})";
  if (strips_first)
    steps += model.treat_whitespace_as_suffix
                 // `tokenizers` 0.23 breaks down where "Strip" takes the end of an empty text.
                 ? R"(, {"type": "Replace", "pattern": {"Regex": " \\z"}, "content": ""})"
                 : R"(, {"type": "Strip", "content": " ", "start": 1, "stop": 0})";
  return Json::parse(R"({"type": "Sequence", "decoders": [)" + steps + "]}", "decoder");
}

Json precompiled_json(const SentencePieceModel& model) {
  return Json(Json::Object{{"type", "Precompiled"}, {"precompiled_charsmap", encode_base64(model.charsmap)}});
}

Json replace_json(const char* pattern_kind, const char* pattern, const char* content) {
  return Json(Json::Object{
      {"type", "Replace"}, {"pattern", Json(Json::Object{{pattern_kind, pattern}})}, {"content", content}});
}

// SentencePiece's rules as the steps of a tokenizer.json. `Precompiled` applies the same rules to graphemes
// instead of to the longest match, and knows no symbols that are kept from them.
Json rules_json(const SentencePieceModel& model) {
  const char* space = model.escape_whitespaces ? "\xE2\x96\x81" : " ";
  Json::Array steps;
  if (!model.charsmap.empty()) steps.push_back(precompiled_json(model));
  if (model.remove_extra_whitespaces) {
    steps.push_back(replace_json("Regex", R"(\A +| +\z)", ""));
    steps.push_back(replace_json("Regex", " {2,}", " "));
  }
  if (model.add_dummy_prefix && !model.treat_whitespace_as_suffix)
    steps.push_back(Json(Json::Object{{"type", "Prepend"}, {"prepend", space}}));
  if (model.escape_whitespaces) steps.push_back(replace_json("String", " ", space));
  if (model.add_dummy_prefix && model.treat_whitespace_as_suffix)
    steps.push_back(replace_json("Regex", R"((?<=[\s\S])\z)", space));
  if (steps.empty()) return {};
  return Json(Json::Object{{"type", "Sequence"}, {"normalizers", std::move(steps)}});
}

// A cut around every symbol, the longest first.
Json symbols_json(const SentencePieceModel& model) {
  std::vector<std::string> symbols;
  for (const Piece_& piece : model.pieces)
    if (piece.type == PieceType::kUserDefined) symbols.push_back(piece.text);
  std::stable_sort(symbols.begin(), symbols.end(),
                   [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
  std::string pattern;
  for (const std::string& symbol : symbols) {
    if (!pattern.empty()) pattern += '|';
    for (const char c : symbol) {
      if (std::string_view("\\^$.[]|()?*+{}-#&~ ").find(c) != std::string_view::npos) pattern += '\\';
      pattern += c;
    }
  }
  return Json(Json::Object{{"type", "Split"},
                           {"pattern", Json(Json::Object{{"Regex", pattern}})},
                           {"behavior", "Isolated"},
                           {"invert", false}});
}

void add_symbols(const SentencePieceModel& model, TokenizerParts& parts, bool user_defined) {
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece_& piece = model.pieces[id];
    const bool control = piece.type == PieceType::kControl;
    if (!control && !(user_defined && piece.type == PieceType::kUserDefined)) continue;
    AddedToken token;
    token.id = static_cast<int32_t>(id);
    token.content = piece.text;
    token.special = control;
    parts.added_tokens.push_back(std::move(token));
  }
}

// transformers makes merges of the pieces in the order of their ids, and of equal pieces in the order of the
// lengths of their parts; scores play no role.
std::unique_ptr<TokenModel> make_bpe_as_transformers(const SentencePieceModel& model,
                                                     const std::string& unk_token, const std::string& where) {
  auto bpe = std::make_unique<BpeModel>(
      make_vocabulary(model), BpeOptions{.unk_token = unk_token, .fuse_unk = true, .byte_fallback = true},
      where);
  const TokenTable& vocabulary = bpe->vocabulary();
  struct Cut {
    size_t at, left_characters;
  };
  int64_t rank = 0;
  std::vector<Cut> cuts;
  for (int32_t id = 0; id < vocabulary.id_end(); ++id) {
    const std::string_view text = vocabulary.text(id);
    if (text.size() > 4096)
      fail("{}: the piece {} has {} bytes, more than any real one", where, id, text.size());
    cuts.clear();
    size_t characters = 1, at = 0;
    for (next_character(text, at); at < text.size(); next_character(text, at), ++characters)
      if (vocabulary.find(text.substr(0, at)) >= 0 && vocabulary.find(text.substr(at)) >= 0)
        cuts.push_back({at, characters});
    for (const Cut& cut : cuts) bpe->add_merge(text.substr(0, cut.at), text.substr(cut.at), rank++);
  }
  return bpe;
}

bool flag_or(const Json& config, std::string_view key, bool otherwise) {
  const Json* value = config.find(key);
  return value == nullptr || !value->is_bool() ? otherwise : value->as_bool();
}

Json metaspace(const char* scheme, bool split) {
  Json json = Json::object();
  json.set("type", "Metaspace");
  json.set("replacement", "▁");
  json.set("prepend_scheme", scheme);
  json.set("split", split);
  return json;
}

// LlamaTokenizer and CodeLlamaTokenizer of transformers 5.
void fill_as_llama(const SentencePieceModel& model, bool code_llama, TokenizerParts& parts) {
  set_defaults(parts.config, {{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}});
  if (code_llama) set_defaults(parts.config, {{"add_bos_token", true}});
  const bool prefix = flag_or(parts.config, "add_prefix_space", true);
  const bool legacy = !code_llama && flag_or(parts.config, "legacy", false);
  parts.model = make_bpe_as_transformers(model, code_llama ? "<unk>" : "", parts.where);
  parts.pre_tokenizer = make_pre_tokenizer(metaspace(!prefix  ? "never"
                                                     : legacy ? "always"
                                                              : "first",
                                                     false),
                                           parts.where);
  parts.decoder = make_decoder(decoder_json(model, prefix, true), parts.where);
  add_symbols(model, parts, true);
}

void fill_as_gemma(const SentencePieceModel& model, TokenizerParts& parts) {
  set_defaults(parts.config, {{"unk_token", "<unk>"},
                              {"bos_token", "<bos>"},
                              {"eos_token", "<eos>"},
                              {"pad_token", "<pad>"},
                              {"mask_token", "<mask>"}});
  parts.model = make_bpe_as_transformers(model, "<unk>", parts.where);
  parts.normalizer = make_normalizer(
      Json::parse(R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})", "normalizer"),
      parts.where);
  // Blanks are gone when it is cut, so this cuts nothing; it is what the class says.
  parts.decoder = make_decoder(decoder_json(model, false, true), parts.where);
  add_symbols(model, parts, true);
}

void fill_as_t5(const SentencePieceModel& model, TokenizerParts& parts) {
  set_defaults(parts.config, {{"unk_token", "<unk>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}});
  int64_t extra_ids = 100;
  if (const Json* value = parts.config.find("extra_ids"); value != nullptr && value->is_int())
    extra_ids = std::clamp<int64_t>(value->as_int(), 0, 10000);
  SentencePieceModel plain = model;
  plain.byte_fallback = false;
  parts.model = make_unigram_model(plain, UnigramReference::kTokenizers, parts.where);
  if (!model.charsmap.empty()) parts.normalizer = make_normalizer(precompiled_json(model), parts.where);
  parts.pre_tokenizer = make_pre_tokenizer(
      Json(Json::Object{{"type", "Sequence"},
                        {"pretokenizers", Json(Json::Array{Json(Json::Object{{"type", "WhitespaceSplit"}}),
                                                           metaspace("always", true)})}}),
      parts.where);
  parts.decoder = make_decoder(metaspace("always", true), parts.where);
  add_symbols(model, parts, true);
  const bool named =
      parts.config.contains("additional_special_tokens") || parts.config.contains("extra_special_tokens");
  if (named) return;
  Json extra = Json::array();
  for (int64_t i = 0; i < extra_ids; ++i) extra.push_back("<extra_id_" + std::to_string(i) + ">");
  parts.config.set("additional_special_tokens", std::move(extra));
}

void fill_as_sentencepiece(const SentencePieceModel& model, TokenizerParts& parts) {
  const auto name = [&](const char* key, int64_t id) {
    if (id >= 0) set_defaults(parts.config, {{key, text_of(model, id)}});
  };
  name("bos_token", model.bos_id);
  name("eos_token", model.eos_id);
  name("pad_token", model.pad_id);
  parts.normalizer = make_normalizer(model, parts.where);
  if (model.type == SentencePieceModel::Type::kUnigram) {
    parts.model = make_unigram_model(model, UnigramReference::kSentencePiece, parts.where);
  } else {
    parts.model = make_bpe_model(model, parts.where);
    ByteTrie symbols = user_defined_symbols(model);
    if (!symbols.empty()) {
      auto splitter = std::make_unique<SymbolSplitter>(std::move(symbols));
      splitter->set_json(symbols_json(model));
      parts.pre_tokenizer = std::move(splitter);
    }
  }
  parts.decoder = make_decoder(decoder_json(model, model.add_dummy_prefix, model.byte_fallback), parts.where);
  add_symbols(model, parts, false);
}

}  // namespace

std::unique_ptr<TokenModel> make_unigram_model(const SentencePieceModel& model, UnigramReference reference,
                                               const std::string& where) {
  const bool tokenizers = reference == UnigramReference::kTokenizers;
  float worst = std::numeric_limits<float>::max();
  for (const Piece_& piece : model.pieces) {
    if (!tokenizers && piece.type != PieceType::kNormal) continue;
    worst = std::min(worst, piece.score);
  }
  if (worst == std::numeric_limits<float>::max()) worst = 0;  // no normal piece at all
  constexpr double kHidden = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> scores;
  scores.reserve(model.pieces.size());
  for (const Piece_& piece : model.pieces) {
    double score = static_cast<double>(piece.score);
    if (!tokenizers) switch (piece.type) {
        case PieceType::kNormal:
          break;
        case PieceType::kUserDefined:
          score = 0;  // better than any other
          break;
        case PieceType::kUnused:
          if (reference == UnigramReference::kSentencePiece) score = kHidden;
          break;
        default:
          score = kHidden;
      }
    scores.push_back(score);
  }
  const double penalty = kUnknownPenalty;
  UnigramOptions options{.unk_id = static_cast<int32_t>(model.unk_id),
                         .unk_score = tokenizers ? static_cast<double>(worst) - penalty
                                                 : static_cast<double>(worst - static_cast<float>(penalty)),
                         .byte_fallback = model.byte_fallback && reference != UnigramReference::kLlamaCpp,
                         .single_precision = reference == UnigramReference::kSentencePiece,
                         .looks_up_unknown_runs = tokenizers};
  return std::make_unique<UnigramModel>(make_vocabulary(model), std::move(scores), options, where);
}

std::unique_ptr<TokenModel> make_bpe_model(const SentencePieceModel& model, const std::string& where) {
  std::vector<float> order;
  const auto merges_into = [&](const Piece_& piece) {
    return piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined;
  };
  for (const Piece_& piece : model.pieces)
    if (merges_into(piece)) order.push_back(piece.score);
  std::sort(order.begin(), order.end(), std::greater<>());
  order.erase(std::unique(order.begin(), order.end()), order.end());
  auto bpe = std::make_unique<BpeModel>(
      make_vocabulary(model),
      BpeOptions{
          .unk_token = text_of(model, model.unk_id), .fuse_unk = true, .byte_fallback = model.byte_fallback},
      where);
  // A vocabulary of words or characters merges nothing.
  if (model.type == SentencePieceModel::Type::kBpe)
    add_merges_by_rank(
        *bpe,
        [&](int32_t id) -> int64_t {
          const Piece_& piece = model.pieces[static_cast<size_t>(id)];
          if (!merges_into(piece)) return -1;
          return std::lower_bound(order.begin(), order.end(), piece.score, std::greater<>()) - order.begin();
        },
        where);
  return bpe;
}

std::unique_ptr<Normalizer> make_normalizer(const SentencePieceModel& model, const std::string& where) {
  auto made = make_sentencepiece_normalizer({.charsmap = Charsmap::from_bytes(model.charsmap, where),
                                             .kept = user_defined_symbols(model),
                                             .add_dummy_prefix = model.add_dummy_prefix,
                                             .remove_extra_whitespaces = model.remove_extra_whitespaces,
                                             .escape_whitespaces = model.escape_whitespaces,
                                             .whitespace_as_suffix = model.treat_whitespace_as_suffix});
  made->set_json(rules_json(model));
  return made;
}

TokenizerParts parts_from_sentencepiece(const SentencePieceModel& model, const TokenizerSettings& settings,
                                        const std::string& where) {
  using Type = SentencePieceModel::Type;
  if (model.type == Type::kWord || model.type == Type::kCharacter)
    fail("{}: a SentencePiece model of the type '{}', expected BPE or Unigram", where,
         model.type == Type::kWord ? "word" : "char");
  TokenizerParts parts;
  parts.where = where;
  parts.config = settings.config;
  const std::string& name = settings.tokenizer_class;
  const bool bpe = model.type == Type::kBpe;
  const bool llama = name == "LlamaTokenizer", code_llama = name == "CodeLlamaTokenizer";
  if (bpe && (llama || code_llama)) {
    fill_as_llama(model, code_llama, parts);
  } else if (bpe && name == "GemmaTokenizer") {
    fill_as_gemma(model, parts);
  } else if (!bpe && name == "T5Tokenizer") {
    fill_as_t5(model, parts);
  } else {
    if (!name.empty())
      parts.notes.push_back(
          fmt::format("{}: the class {} has no rules of its own here for a {} model; text is handled as "
                      "SentencePiece itself does",
                      where, in_quotes(name), bpe ? "BPE" : "Unigram"));
    fill_as_sentencepiece(model, parts);
  }
  add_configured_tokens(parts);
  if (name == "T5Tokenizer" && !bpe) {
    const auto eos = std::find_if(parts.added_tokens.begin(), parts.added_tokens.end(),
                                  [](const AddedToken& token) { return token.content == "</s>"; });
    if (eos != parts.added_tokens.end())
      parts.post_processor = make_wrapping_post_processor({}, {{eos->content, eos->id}});
  }
  return parts;
}

}  // namespace serval
