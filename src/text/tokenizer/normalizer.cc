#include "text/tokenizer/normalizer.h"

#include <utf8proc.h>

#include "base/error.h"
#include "text/tokenizer/characters.h"
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

class LowercaseNormalizer final : public Normalizer {
 public:
  Piece apply(Pieces& pieces, const Piece& piece) const override {
    std::vector<ChangedCharacter> characters;
    characters.reserve(piece.text.size());
    bool same = true;
    for (size_t at = 0; at < piece.text.size();) {
      const char32_t c = next_character(piece.text, at);
      if (c == 0x130) {  // the one letter whose lower case is two characters
        characters.push_back({U'i', 0});
        characters.push_back({0x307, 1});
        same = false;
        continue;
      }
      const auto lower = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
      characters.push_back({lower, 0});
      same = same && lower == c;
    }
    return same ? piece : pieces.changed(piece, characters);
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

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const Json& value, const std::string& where) {
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
  if (type == "Precompiled") fail("{}: the normalizer 'Precompiled' is not supported yet", where);
  fail("{}: the normalizer '{}' is not supported", where, type);
}

}  // namespace serval
