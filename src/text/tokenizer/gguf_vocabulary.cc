#include "text/tokenizer/gguf_vocabulary.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/text.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/configured_tokens.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/json_section.h"
#include "text/tokenizer/sentencepiece.h"
#include "text/tokenizer/vocabulary_files.h"

namespace serval {
namespace {

constexpr const char* kPrefix = "tokenizer.ggml.";

std::string key_of(std::string_view name) {
  return kPrefix + std::string(name);
}

// What every model has: tokens, scores, types. The scores are absent from byte-level vocabularies.
struct Vocabulary {
  std::vector<std::string_view> tokens;
  std::vector<double> scores;
  std::vector<PieceType> types;
};

// Tokens that end or shape a conversation: llama.cpp takes them for special whatever their type says.
bool is_control_by_name(std::string_view token) {
  static constexpr std::string_view kNames[] = {
      "<|eot_id|>",         "<|im_end|>",  "<|end|>",       "<end_of_turn>",  "<|endoftext|>",
      "<|end_of_text|>",    "<EOT>",       "[EOT]",         "<|eom_id|>",     "<｜end▁of▁sentence｜>",
      "<end_of_utterance>", "<|return|>",  "<|call|>",      "<|fim_prefix|>", "<|fim_suffix|>",
      "<|fim_middle|>",     "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"};
  return std::find(std::begin(kNames), std::end(kNames), token) != std::end(kNames);
}

Vocabulary read_vocabulary(const GgufMetadata& gguf) {
  Vocabulary vocabulary;
  vocabulary.tokens = gguf.strings(key_of("tokens"));
  const size_t count = vocabulary.tokens.size();
  if (count == 0 || static_cast<int64_t>(count) > TokenTable::kMaxId)
    fail("{}: tokenizer.ggml.tokens holds {} tokens", gguf.where(), count);
  const auto check = [&](const char* what, size_t size) {
    if (size != 0 && size < count)
      fail("{}: tokenizer.ggml.{} holds {} entries for {} tokens", gguf.where(), what, size, count);
  };
  vocabulary.scores = gguf.numbers(key_of("scores"));
  check("scores", vocabulary.scores.size());
  for (const double score : vocabulary.scores)
    if (!std::isfinite(score)) fail("{}: tokenizer.ggml.scores holds {}", gguf.where(), score);
  vocabulary.scores.resize(count, 0.0);
  const std::vector<int64_t> types = gguf.integers(key_of("token_type"));
  check("token_type", types.size());
  for (size_t i = 0; i < count; ++i) {
    const int64_t type = types.empty() ? 1 : types[i];
    if (type < 0 || type > 6)
      fail("{}: tokenizer.ggml.token_type[{}] is {}, expected 1 to 6", gguf.where(), i, type);
    // 0 is "undefined": there, but never found in a text.
    vocabulary.types.push_back(type == 0 ? PieceType::kUnused : static_cast<PieceType>(type));
    if (vocabulary.types.back() == PieceType::kNormal && is_control_by_name(vocabulary.tokens[i]))
      vocabulary.types.back() = PieceType::kControl;
    if (valid_utf8_prefix(vocabulary.tokens[i]).ill_formed != 0)
      fail("{}: tokenizer.ggml.tokens[{}] is not UTF-8", gguf.where(), i);
  }
  return vocabulary;
}

// The vocabulary as SentencePiece would have it. Empty tokens get names, as in llama.cpp.
SentencePieceModel as_sentencepiece(const Vocabulary& vocabulary, int64_t unk_id) {
  SentencePieceModel model;
  model.pieces.reserve(vocabulary.tokens.size());
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    SentencePieceModel::Piece piece{std::string(vocabulary.tokens[i]),
                                    static_cast<float>(vocabulary.scores[i]), vocabulary.types[i]};
    if (piece.text.empty()) piece.text = "[EMPTY_" + std::to_string(i) + "]";
    model.pieces.push_back(std::move(piece));
  }
  model.unk_id = unk_id;
  return model;
}

Json object(Json::Object members) {
  return Json(std::move(members));
}

Json sequence(const char* list, Json::Array parts) {
  return object({{"type", "Sequence"}, {list, std::move(parts)}});
}

class Reader {
 public:
  explicit Reader(const GgufMetadata& gguf) : gguf_(gguf), vocabulary_(read_vocabulary(gguf)) {
    parts_.where = gguf.where();
    parts_.only_read_here = true;
  }

  TokenizerParts read() {
    const std::string_view model = gguf_.string(key_of("model"));
    if (model == "gpt2" || model == "gemma4") {
      read_bpe(model);
    } else if (model == "llama") {
      read_llama();
    } else if (model == "t5") {
      read_t5();
    } else if (model == "bert") {
      read_bert();
    } else {
      fail("{}: the tokenizer model {} is not supported; gpt2, gemma4, llama, t5 and bert are", gguf_.where(),
           in_quotes(model));
    }
    read_chat_templates();
    parts_.notes.push_back(
        fmt::format("{}: the tokenizer inside the GGUF file, model {}", gguf_.where(), model));
    return std::move(parts_);
  }

 private:
  // The token of a role, or -1; ids outside the vocabulary say that there is none.
  int64_t role(const char* name, int64_t otherwise) const {
    const int64_t id = gguf_.find_integer(key_of(std::string(name) + "_token_id")).value_or(otherwise);
    return id >= 0 && id < static_cast<int64_t>(vocabulary_.tokens.size()) ? id : -1;
  }

  void name_role(const char* role_key, int64_t id) {
    if (id >= 0) parts_.config.set(role_key, vocabulary_.tokens[static_cast<size_t>(id)]);
  }

  void name_roles(int64_t bos, int64_t eos, int64_t unk) {
    name_role("bos_token", role("bos", bos));
    name_role("eos_token", role("eos", eos));
    name_role("pad_token", role("padding", -1));
    name_role("unk_token", role("unknown", unk));
  }

  // What goes around a text; `bos` and `eos` hold unless the file says otherwise.
  void read_ends(bool bos, bool eos, int64_t default_bos, int64_t default_eos) {
    const auto ids = [&](const char* flag, const char* name, bool otherwise,
                         int64_t default_id) -> std::vector<SpelledToken> {
      if (!gguf_.find_bool(key_of(flag)).value_or(otherwise)) return {};
      const int64_t id = role(name, default_id);
      if (id < 0)
        fail("{}: tokenizer.ggml.{} is true, but tokenizer.ggml.{}_token_id is missing", gguf_.where(), flag,
             name);
      return {{std::string(vocabulary_.tokens[static_cast<size_t>(id)]), static_cast<int32_t>(id)}};
    };
    parts_.post_processor = make_wrapping_post_processor(ids("add_bos_token", "bos", bos, default_bos),
                                                         ids("add_eos_token", "eos", eos, default_eos));
  }

  void add_special_tokens() {
    // Phi-3's special tokens take the white space behind them along; the file does not say so.
    std::string name(gguf_.find_string("general.name").value_or(""));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    const bool phi3 = name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
    for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) {
      const PieceType type = vocabulary_.types[i];
      if (type != PieceType::kControl && type != PieceType::kUserDefined && type != PieceType::kUnknown)
        continue;
      AddedToken token;
      token.id = static_cast<int32_t>(i);
      token.content = vocabulary_.tokens[i];
      token.special = type != PieceType::kUserDefined;
      token.rstrip =
          phi3 && token.content != "<unk>" && token.content != "<s>" && token.content != "<|endoftext|>";
      parts_.added_tokens.push_back(std::move(token));
    }
  }

  TokenTable token_table() const {
    TokenTable table;
    table.reserve(vocabulary_.tokens.size());
    for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) {
      const std::string_view token = vocabulary_.tokens[i];
      if (!token.empty() && table.find(token) >= 0)
        fail("{}: the token {} is there twice", gguf_.where(), in_quotes(token));
      table.add(token.empty() ? "[EMPTY_" + std::to_string(i) + "]" : std::string(token),
                static_cast<int32_t>(i));
    }
    return table;
  }

  void read_bpe(std::string_view model) {
    const std::string_view name =
        model == "gemma4" ? std::string_view("gemma4") : gguf_.find_string(key_of("pre")).value_or("");
    const GgufPreTokenizer* pre = find_gguf_pre_tokenizer(name);
    if (pre == nullptr)
      fail(
          "{}: tokenizer.ggml.pre is {}, which is not known, so the text could be cut wrongly; take the "
          "tokenizer.json of "
          "this model",
          gguf_.where(), in_quotes(name));
    if (name.empty() || name == "default")
      parts_.notes.push_back(
          fmt::format("{}: tokenizer.ggml.pre is missing or \"default\"; the text may be cut in another "
                      "way than the model was trained with",
                      gguf_.where()));
    BpeOptions options{.byte_fallback = pre->by_characters, .ignore_merges = pre->ignore_merges};
    auto bpe = std::make_shared<BpeModel>(token_table(), options, gguf_.where());
    const std::vector<std::string_view> merges = gguf_.strings(key_of("merges"));
    bpe->reserve_merges(merges.size());
    int64_t rank = 0;
    for (const std::string_view merge : merges) {
      // A blank at the start belongs to the left token.
      const size_t space = merge.find(' ', 1);
      if (space == std::string_view::npos)
        fail("{}: tokenizer.ggml.merges[{}] is {}, expected two tokens with a blank between", gguf_.where(),
             rank, in_quotes(merge));
      bpe->add_merge(merge.substr(0, space), merge.substr(space + 1), rank++);
    }
    parts_.model = std::move(bpe);
    Json::Array cuts;
    for (const std::string_view pattern : pre->patterns)
      cuts.push_back(object({{"type", "Split"},
                             {"pattern", object({{"Regex", pattern}})},
                             {"behavior", "Isolated"},
                             {"invert", false}}));
    if (pre->by_characters) {
      parts_.normalizer = make_normalizer(
          object({{"type", "Replace"}, {"pattern", object({{"String", " "}})}, {"content", "▁"}}),
          gguf_.where());
      parts_.decoder = make_decoder(
          sequence("decoders",
                   {object({{"type", "Replace"}, {"pattern", object({{"String", "▁"}})}, {"content", " "}}),
                    object({{"type", "ByteFallback"}}), object({{"type", "Fuse"}})}),
          gguf_.where());
    } else {
      cuts.push_back(object({{"type", "ByteLevel"},
                             {"add_prefix_space", false},
                             {"trim_offsets", true},
                             {"use_regex", false}}));
      parts_.decoder = make_decoder(byte_level_decoder(), gguf_.where());
    }
    parts_.pre_tokenizer = make_pre_tokenizer(sequence("pretokenizers", std::move(cuts)), gguf_.where());
    add_special_tokens();
    // llama.cpp takes token 11 where the file names none, which is Falcon's.
    name_roles(-1, -1, -1);
    read_ends(pre->add_bos && role("bos", -1) >= 0, false, -1, -1);
  }

  void read_llama() {
    const int64_t unk = role("unknown", 0);
    SentencePieceModel model = as_sentencepiece(vocabulary_, unk);
    model.type = SentencePieceModel::Type::kBpe;
    model.byte_fallback = true;
    parts_.model = make_bpe_model(model, gguf_.where());
    const bool prefix = gguf_.find_bool(key_of("add_space_prefix")).value_or(true);
    Json::Array steps;
    if (prefix) steps.push_back(object({{"type", "Prepend"}, {"prepend", "▁"}}));
    steps.push_back(object({{"type", "Replace"}, {"pattern", object({{"String", " "}})}, {"content", "▁"}}));
    parts_.normalizer = make_normalizer(sequence("normalizers", std::move(steps)), gguf_.where());
    parts_.decoder = make_decoder(sentencepiece_decoder(prefix), gguf_.where());
    add_special_tokens();
    name_roles(1, 2, 0);
    read_ends(true, false, 1, 2);
  }

  static Json sentencepiece_decoder(bool strips_first) {
    Json::Array steps = {
        object({{"type", "Replace"}, {"pattern", object({{"String", "▁"}})}, {"content", " "}}),
        object({{"type", "ByteFallback"}}), object({{"type", "Fuse"}})};
    if (strips_first)
      steps.push_back(object({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}));
    return sequence("decoders", std::move(steps));
  }

  void read_t5() {
    const int64_t unk = role("unknown", 2);
    if (unk < 0) fail("{}: tokenizer.ggml.unknown_token_id is missing", gguf_.where());
    SentencePieceModel model = as_sentencepiece(vocabulary_, unk);
    model.charsmap = gguf_.byte_array(key_of("precompiled_charsmap"));
    model.add_dummy_prefix = gguf_.find_bool(key_of("add_space_prefix")).value_or(false);
    model.remove_extra_whitespaces = gguf_.find_bool(key_of("remove_extra_whitespaces")).value_or(false);
    parts_.model = make_unigram_model(model, UnigramReference::kLlamaCpp, gguf_.where());
    parts_.normalizer = make_normalizer(model, gguf_.where());
    parts_.decoder = make_decoder(sentencepiece_decoder(model.add_dummy_prefix), gguf_.where());
    add_special_tokens();
    name_roles(-1, 1, 2);
    read_ends(false, true, -1, 1);
  }

  void read_bert() {
    WordPieceSource source{.max_word_characters = int64_t{1} << 20};
    for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) {
      // A token that starts a word is marked here, elsewhere the others are.
      std::string_view token = vocabulary_.tokens[i];
      if (vocabulary_.types[i] != PieceType::kNormal) {
        source.words.emplace_back(token);
      } else if (starts_with(token, "▁")) {
        source.words.emplace_back(token.substr(3));
      } else {
        source.words.push_back("##" + std::string(token));
      }
    }
    Json config = Json::object();
    const bool lowercase = gguf_.find_bool(key_of("normalizer.lowercase")).value_or(true);
    config.set("do_lower_case", lowercase);
    config.set("strip_accents", gguf_.find_bool(key_of("normalizer.strip_accents")).value_or(lowercase));
    const auto name = [&](const char* key, int64_t id) {
      if (id >= 0) config.set(key, source.words[static_cast<size_t>(id)]);
    };
    name("unk_token", role("unknown", 100));
    name("cls_token", role("bos", 101));
    name("sep_token", role("seperator", 102));
    name("pad_token", role("padding", 0));
    name("mask_token", role("mask", 103));
    parts_ = parts_from_word_pieces(source, std::move(config), gguf_.where());
    parts_.only_read_here = true;
  }

  void read_chat_templates() {
    const std::string prefix = "tokenizer.chat_template";
    const auto plain = gguf_.find_string(prefix);
    Json named = Json::array();
    for (const std::string_view key : gguf_.keys())
      if (starts_with(key, prefix + "."))
        named.push_back(object({{"name", key.substr(prefix.size() + 1)}, {"template", gguf_.string(key)}}));
    if (named.size() == 0) {
      if (plain) parts_.config.set("chat_template", *plain);
      return;
    }
    if (plain) named.push_back(object({{"name", "default"}, {"template", *plain}}));
    parts_.config.set("chat_template", std::move(named));
  }

  const GgufMetadata& gguf_;
  Vocabulary vocabulary_;
  TokenizerParts parts_;
};

}  // namespace

TokenizerParts parts_from_gguf(const GgufMetadata& gguf) {
  if (gguf.find(key_of("model")) == nullptr || gguf.find(key_of("tokens")) == nullptr)
    fail("{}: this GGUF file holds no tokenizer (tokenizer.ggml.model, tokenizer.ggml.tokens)", gguf.where());
  return Reader(gguf).read();
}

}  // namespace serval
