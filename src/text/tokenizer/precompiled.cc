#include "text/tokenizer/precompiled.h"

#include <utf8proc.h>

#include "base/base64.h"
#include "base/error.h"
#include "text/tokenizer/characters.h"

namespace serval {
namespace {

constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";
// The longest grapheme that a rule is applied to as a whole.
constexpr size_t kShortGrapheme = 5;

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += !is_continuation(c);
  return count;
}

// Appends `text` for `old_count` old characters. Where it is shorter, its last character swallows the rest;
// where it is empty, the character before does, if there is one.
void put(std::vector<ChangedCharacter>& out, std::string_view text, size_t old_count) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count)
    out.push_back({next_character(text, at), count < old_count ? 0 : 1});
  if (count < old_count && !out.empty()) out.back().change -= static_cast<int32_t>(old_count - count);
}

class PrecompiledNormalizer final : public Normalizer {
 public:
  explicit PrecompiledNormalizer(Charsmap map) : map_(std::move(map)) {}
  Piece apply(Pieces& pieces, const Piece& piece) const override {
    std::vector<ChangedCharacter> characters;
    characters.reserve(piece.text.size());
    bool changed = false;
    for (size_t at = 0; at < piece.text.size();) {
      const size_t end = grapheme_end(piece.text, at);
      const std::string_view grapheme = piece.text.substr(at, end - at);
      at = end;
      if (grapheme.size() <= kShortGrapheme && replace(grapheme, characters)) {
        changed = true;
        continue;
      }
      for (size_t begin = 0; begin < grapheme.size();) {
        size_t next = begin;
        const char32_t c = next_character(grapheme, next);
        if (replace(grapheme.substr(begin, next - begin), characters)) {
          changed = true;
        } else {
          characters.push_back({c, 0});
        }
        begin = next;
      }
    }
    return changed ? pieces.changed(piece, characters) : piece;
  }

 private:
  bool replace(std::string_view part, std::vector<ChangedCharacter>& out) const {
    const auto text = map_.shortest(part);
    if (text) put(out, *text, count_characters(part));
    return text.has_value();
  }

  static size_t grapheme_end(std::string_view text, size_t at) {
    utf8proc_int32_t state = 0;
    auto last = static_cast<utf8proc_int32_t>(next_character(text, at));
    while (at < text.size()) {
      // Between two ASCII characters only CR LF is no boundary.
      const bool ascii = last < 0x80 && static_cast<unsigned char>(text[at]) < 0x80;
      if (ascii && !(last == '\r' && text[at] == '\n')) return at;
      size_t next = at;
      const auto c = static_cast<utf8proc_int32_t>(next_character(text, next));
      if (utf8proc_grapheme_break_stateful(last, c, &state)) return at;
      last = c;
      at = next;
    }
    return at;
  }

  Charsmap map_;
};

class SentencePieceNormalizer final : public Normalizer {
 public:
  explicit SentencePieceNormalizer(SentencePieceRules rules) : rules_(std::move(rules)) {}

  Piece apply(Pieces& pieces, const Piece& piece) const override {
    const std::string_view space = rules_.escape_whitespaces ? kEscapedSpace : std::string_view(" ");
    Piece text = piece;
    if (rules_.remove_extra_whitespaces)
      while (!text.text.empty()) {
        const Rewritten first = rewrite(text.text);
        if (first.text != " ") break;
        skip(text, first.size);
      }
    if (text.text.empty()) return text;
    std::vector<ChangedCharacter> out;
    out.reserve(text.text.size() + 1);
    const bool prefix = rules_.add_dummy_prefix && !rules_.whitespace_as_suffix;
    bool after_space = rules_.remove_extra_whitespaces;
    std::string rewritten;
    for (size_t at = 0; at < text.text.size();) {
      const Rewritten part = rewrite(text.text.substr(at));
      std::string_view now = part.text;
      while (after_space && !now.empty() && now.front() == ' ') now.remove_prefix(1);
      if (!now.empty()) after_space = now.back() == ' ' && rules_.remove_extra_whitespaces;
      rewritten.clear();
      for (const char c : now)
        if (c == ' ') {
          rewritten += space;
        } else {
          rewritten += c;
        }
      put(out, rewritten, count_characters(text.text.substr(at, part.size)));
      at += part.size;
    }
    if (rules_.remove_extra_whitespaces) {
      size_t used = 0;
      const char32_t blank = next_character(space, used);
      while (!out.empty() && out.back().character == blank) {
        // Old characters that stood behind are dropped with it.
        out.pop_back();
      }
    }
    Piece normalized = pieces.changed(text, out);
    if (prefix) return pieces.prepended(normalized, space);
    if (rules_.add_dummy_prefix) return with_suffix(pieces, text, std::move(out), space);
    return normalized;
  }

 private:
  struct Rewritten {
    std::string_view text;
    size_t size;  // bytes of the old text
  };

  Rewritten rewrite(std::string_view text) const {
    size_t size = 0;
    if (!rules_.kept.empty() && rules_.kept.longest_prefix(text, size) >= 0)
      return {text.substr(0, size), size};
    if (const auto rule = rules_.charsmap.longest(text, size)) return {*rule, size};
    // A rule may have ended inside a character; what is left of it is replaced byte by byte.
    if (is_continuation(text.front())) return {"\xEF\xBF\xBD", 1};
    size = 0;
    next_character(text, size);
    return {text.substr(0, size), size};
  }

  static void skip(Piece& piece, size_t size) {
    piece.text.remove_prefix(size);
    if (piece.spans != nullptr) piece.spans += size;
  }

  static Piece with_suffix(Pieces& pieces, const Piece& piece, std::vector<ChangedCharacter> characters,
                           std::string_view space) {
    for (size_t at = 0; at < space.size();) characters.push_back({next_character(space, at), 1});
    return pieces.changed(piece, characters);
  }

  SentencePieceRules rules_;
};

}  // namespace

std::unique_ptr<Normalizer> make_precompiled_normalizer(const Json& value, const std::string& where) {
  const Json* text = value.find("precompiled_charsmap");
  std::string bytes;
  if (text == nullptr || !text->is_string() || !decode_base64(text->as_string(), bytes))
    fail("{}: precompiled_charsmap is not base64", where);
  return std::make_unique<PrecompiledNormalizer>(Charsmap::from_bytes(bytes, where));
}

std::unique_ptr<Normalizer> make_sentencepiece_normalizer(SentencePieceRules rules) {
  return std::make_unique<SentencePieceNormalizer>(std::move(rules));
}

}  // namespace serval
