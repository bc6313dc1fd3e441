#include "text/tokenizer/normalizer.h"

#include "base/error.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/precompiled.h"
#include "text/tokenizer/regex.h"

namespace serval {
namespace {

class UnicodeNormalizer final : public Normalizer {
 public:
  explicit UnicodeNormalizer(UnicodeForm form) : form_(form) {}
  Piece apply(Pieces& pieces, const Piece& piece) const override {
    const std::vector<ChangedCharacter> characters = unicode_form(piece.text, form_);
    return characters.empty() ? piece : pieces.changed(piece, characters);
  }

 private:
  UnicodeForm form_;
};

// Drops the characters for which `map` gives kDropped, and puts what it gives in the place of the others.
constexpr char32_t kDropped = 0xFFFFFFFF;
template <class Map>
Piece map_characters(Pieces& pieces, const Piece& piece, const Map& map) {
  std::vector<ChangedCharacter> characters;
  characters.reserve(piece.text.size());
  size_t dropped_first = 0;
  bool same = true;
  for (size_t at = 0; at < piece.text.size();) {
    const char32_t c = next_character(piece.text, at);
    const char32_t mapped = map(c);
    same = same && mapped == c;
    if (mapped != kDropped) {
      characters.push_back({mapped, 0});
    } else if (characters.empty()) {
      ++dropped_first;
    } else {
      --characters.back().change;
    }
  }
  return same ? piece : pieces.changed(piece, characters, dropped_first);
}

Piece lower_case(Pieces& pieces, const Piece& piece) {
  constexpr char32_t kDottedCapitalI = 0x130;  // the one letter whose lower case is two characters
  if (piece.text.find("\xC4\xB0") == std::string_view::npos)
    return map_characters(pieces, piece, [](char32_t c) {
      return c >= 0x80 ? unicode::to_lower(c) : c >= 'A' && c <= 'Z' ? c | 0x20 : c;
    });
  std::vector<ChangedCharacter> characters;
  for (size_t at = 0; at < piece.text.size();) {
    const char32_t c = next_character(piece.text, at);
    characters.push_back({unicode::to_lower(c), 0});
    if (c == kDottedCapitalI) characters.push_back({0x307, 1});
  }
  return pieces.changed(piece, characters);
}

class LowercaseNormalizer final : public Normalizer {
 public:
  Piece apply(Pieces& pieces, const Piece& piece) const override { return lower_case(pieces, piece); }
};

Piece drop_flagged(Pieces& pieces, const Piece& piece, uint32_t flag) {
  return map_characters(pieces, piece,
                        [flag](char32_t c) { return character_record(c).flags & flag ? kDropped : c; });
}

class StripAccentsNormalizer final : public Normalizer {
 public:
  Piece apply(Pieces& pieces, const Piece& piece) const override {
    return drop_flagged(pieces, piece, unicode::kCombiningMark);
  }
};

bool is_chinese(char32_t c) {
  const auto within = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
  // The sixth starts at 2B920 in the reference too, though the block does at 2B820.
  return within(0x4E00, 0x9FFF) || within(0x3400, 0x4DBF) || within(0x20000, 0x2A6DF) ||
         within(0x2A700, 0x2B73F) || within(0x2B740, 0x2B81F) || within(0x2B920, 0x2CEAF) ||
         within(0xF900, 0xFAFF) || within(0x2F800, 0x2FA1F);
}

Piece set_chinese_apart(Pieces& pieces, const Piece& piece) {
  std::vector<ChangedCharacter> characters;
  bool same = true;
  for (size_t at = 0; at < piece.text.size();) {
    const char32_t c = next_character(piece.text, at);
    if (!is_chinese(c)) {
      characters.push_back({c, 0});
      continue;
    }
    characters.push_back({U' ', 0});
    characters.push_back({c, 1});
    characters.push_back({U' ', 1});
    same = false;
  }
  return same ? piece : pieces.changed(piece, characters);
}

class BertNormalizer final : public Normalizer {
 public:
  struct Options {
    bool clean_text, handle_chinese_chars, strip_accents, lowercase;
  };
  explicit BertNormalizer(const Options& options) : options_(options) {}
  Piece apply(Pieces& pieces, const Piece& old) const override {
    Piece piece = old;
    if (options_.clean_text)
      piece = map_characters(pieces, piece, [](char32_t c) {
        const uint32_t flags = character_record(c).flags;
        return flags & unicode::kBertRemoved ? kDropped : flags & unicode::kBertBlank ? U' ' : c;
      });
    if (options_.handle_chinese_chars) piece = set_chinese_apart(pieces, piece);
    if (options_.strip_accents) {
      const std::vector<ChangedCharacter> characters = unicode_form(piece.text, UnicodeForm::kNfd);
      if (!characters.empty()) piece = pieces.changed(piece, characters);
      piece = drop_flagged(pieces, piece, unicode::kNonspacingMark);
    }
    return options_.lowercase ? lower_case(pieces, piece) : piece;
  }

 private:
  Options options_;
};

// The rule set "nmt_nfkc" of SentencePiece, less its normalization form.
class NmtNormalizer final : public Normalizer {
 public:
  Piece apply(Pieces& pieces, const Piece& piece) const override {
    return map_characters(pieces, piece, [](char32_t c) {
      const auto within = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
      if (within(1, 8) || c == 0xB || within(0xE, 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F)
        return kDropped;
      const bool blank = c == '\t' || c == '\n' || c == '\f' || c == '\r' || c == 0x1680 ||
                         within(0x200B, 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF ||
                         c == 0xFFFD;
      return blank ? U' ' : c;
    });
  }
};

// Every byte becomes its GPT-2 character.
class ByteLevelNormalizer final : public Normalizer {
 public:
  Piece apply(Pieces& pieces, const Piece& piece) const override {
    Piece bytes = piece;
    bytes.byte_level = true;
    return pieces.spelled_in_byte_characters(bytes);
  }
};

class ReplaceNormalizer final : public Normalizer {
 public:
  ReplaceNormalizer(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Piece apply(Pieces& pieces, const Piece& piece) const override {
    std::vector<Stretch> stretches;
    pattern_.find(piece.text, stretches);
    return pieces.replaced(piece, stretches, content_);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class PrependNormalizer final : public Normalizer {
 public:
  explicit PrependNormalizer(std::string prefix) : prefix_(std::move(prefix)) {}
  Piece apply(Pieces& pieces, const Piece& piece) const override { return pieces.prepended(piece, prefix_); }

 private:
  std::string prefix_;
};

class StripNormalizer final : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}
  Piece apply(Pieces&, const Piece& piece) const override {
    size_t begin = 0, end = piece.text.size();
    for (size_t at = 0; left_ && at < end; begin = at)
      if (!is_space(next_character(piece.text, at))) break;
    while (right_ && end > begin && is_space(last_character(piece.text.substr(begin, end - begin)))) do
        --end;
      while (end > begin && is_continuation(piece.text[end]));
    // Unlike a slice, it keeps the origin of the whole text.
    Piece stripped = piece;
    stripped.text = piece.text.substr(begin, end - begin);
    if (stripped.spans != nullptr) stripped.spans += begin;
    return stripped;
  }

 private:
  bool left_, right_;
};

class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}
  Piece apply(Pieces& pieces, const Piece& piece) const override {
    Piece result = piece;
    for (const auto& part : parts_) result = part->apply(pieces, result);
    return result;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

std::unique_ptr<Normalizer> make_unspelled(const Json& value, const std::string& where) {
  if (value.is_null()) return nullptr;
  const std::string& type = value.at("type").as_string();
  if (type == "NFC") return std::make_unique<UnicodeNormalizer>(UnicodeForm::kNfc);
  if (type == "NFD") return std::make_unique<UnicodeNormalizer>(UnicodeForm::kNfd);
  if (type == "NFKC") return std::make_unique<UnicodeNormalizer>(UnicodeForm::kNfkc);
  if (type == "NFKD") return std::make_unique<UnicodeNormalizer>(UnicodeForm::kNfkd);
  if (type == "Lowercase") return std::make_unique<LowercaseNormalizer>();
  if (type == "Prepend") return std::make_unique<PrependNormalizer>(value.at("prepend").as_string());
  if (type == "Strip")
    return std::make_unique<StripNormalizer>(value.at("strip_left").as_bool(),
                                             value.at("strip_right").as_bool());
  if (type == "Replace")
    return std::make_unique<ReplaceNormalizer>(Pattern::from_json(value.at("pattern"), where + ".pattern"),
                                               value.at("content").as_string());
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> parts;
    for (const Json& part : value.at("normalizers").as_array())
      if (auto normalizer = make_normalizer(part, where)) parts.push_back(std::move(normalizer));
    return std::make_unique<NormalizerSequence>(std::move(parts));
  }
  if (type == "StripAccents") return std::make_unique<StripAccentsNormalizer>();
  if (type == "Nmt") return std::make_unique<NmtNormalizer>();
  if (type == "ByteLevel") return std::make_unique<ByteLevelNormalizer>();
  if (type == "BertNormalizer") {
    const bool lowercase = value.at("lowercase").as_bool();
    const Json* strip = value.find("strip_accents");  // null: as lowercase
    return std::make_unique<BertNormalizer>(BertNormalizer::Options{
        .clean_text = value.at("clean_text").as_bool(),
        .handle_chinese_chars = value.at("handle_chinese_chars").as_bool(),
        .strip_accents = strip == nullptr || strip->is_null() ? lowercase : strip->as_bool(),
        .lowercase = lowercase});
  }
  if (type == "Precompiled") return make_precompiled_normalizer(value, where);
  fail("{}: the normalizer '{}' is not supported", where, type);
}

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const Json& value, const std::string& where) {
  std::unique_ptr<Normalizer> made = make_unspelled(value, where);
  if (made != nullptr) made->set_json(value);
  return made;
}

}  // namespace serval
