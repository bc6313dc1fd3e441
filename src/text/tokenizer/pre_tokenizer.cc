#include "text/tokenizer/pre_tokenizer.h"

#include <utility>

#include "base/error.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/json_values.h"
#include "text/tokenizer/regex.h"

namespace serval {
namespace {

constexpr const char* kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

SplitBehavior split_behavior(const Json& value, const std::string& where) {
  const std::string& name = value.as_string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  fail("{}: unknown split behavior '{}'", where, name);
}

// Each character for which `matches` holds is a stretch of its own; those between them are joined.
void find_characters(std::string_view text, bool (*matches)(char32_t), std::vector<Stretch>& stretches) {
  stretches.clear();
  size_t unmatched = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (!matches(next_character(text, at))) continue;
    if (unmatched < begin) stretches.push_back({unmatched, begin, false});
    stretches.push_back({begin, at, true});
    unmatched = at;
  }
  if (unmatched < text.size()) stretches.push_back({unmatched, text.size(), false});
}

class ByteLevelPreTokenizer final : public PreTokenizer {
 public:
  ByteLevelPreTokenizer(bool add_prefix_space, bool use_regex) : add_prefix_space_(add_prefix_space) {
    if (use_regex) words_.emplace(Pattern::regex(kGpt2Words, "the GPT-2 pattern"));
  }
  void apply(Pieces& pieces) const override {
    std::vector<Stretch> stretches;
    pieces.split_each([&](const Piece& old, std::vector<Piece>& out) {
      Piece piece = pieces.spelled_in_byte_characters(old);
      if (add_prefix_space_ && piece.text[0] != ' ') piece = pieces.prepended(piece, " ");
      const size_t first = out.size();
      if (words_) {
        words_->find(piece.text, stretches);
        pieces.split(piece, stretches, SplitBehavior::kIsolated, out);
      } else {
        out.push_back(piece);
      }
      for (size_t i = first; i < out.size(); ++i) out[i].byte_level = true;
    });
  }
  WordScan scan() const override {
    return {words_ && !add_prefix_space_ ? words_->word_end() : nullptr, /*byte_level=*/true};
  }
  bool only_marks_bytes() const override { return !words_ && !add_prefix_space_; }

 private:
  bool add_prefix_space_;
  std::optional<Pattern> words_;
};

class SplitPreTokenizer final : public PreTokenizer {
 public:
  SplitPreTokenizer(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void apply(Pieces& pieces) const override {
    std::vector<Stretch> stretches;
    pieces.split_each([&](const Piece& old, std::vector<Piece>& out) {
      const Piece piece = pieces.spelled_in_byte_characters(old);
      pattern_.find(piece.text, stretches);
      if (invert_)
        for (Stretch& s : stretches) s.is_match = !s.is_match;
      pieces.split(piece, stretches, behavior_, out);
    });
  }
  WordScan scan() const override {
    const bool all_words = behavior_ == SplitBehavior::kIsolated && !invert_;
    return {all_words ? pattern_.word_end() : nullptr, /*byte_level=*/false};
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// Splits at single characters of a class: digits, punctuation, white space.
class ClassPreTokenizer final : public PreTokenizer {
 public:
  ClassPreTokenizer(bool (*matches)(char32_t), SplitBehavior behavior)
      : matches_(matches), behavior_(behavior) {}
  void apply(Pieces& pieces) const override {
    std::vector<Stretch> stretches;
    pieces.split_each([&](const Piece& old, std::vector<Piece>& out) {
      const Piece piece = pieces.spelled_in_byte_characters(old);
      find_characters(piece.text, matches_, stretches);
      pieces.split(piece, stretches, behavior_, out);
    });
  }

 private:
  bool (*matches_)(char32_t);
  SplitBehavior behavior_;
};

// Cuts before each character for which `starts` holds, given the character and its number in the piece.
template <class Starts>
void cut_before(const Pieces& pieces, const Piece& piece, const Starts& starts, std::vector<Piece>& out) {
  size_t begin = std::string_view::npos, count = 0;
  for (size_t at = 0; at < piece.text.size();) {
    const size_t here = at;
    const char32_t c = next_character(piece.text, at);
    if (!starts(c, count++)) continue;
    if (begin != std::string_view::npos) out.push_back(pieces.slice(piece, begin, here));
    begin = here;
  }
  if (begin != std::string_view::npos) out.push_back(pieces.slice(piece, begin, piece.text.size()));
}

// Cuts where the script changes. Blanks and the like go with any; those at the start of a piece are dropped,
// as the reference does.
class ScriptsPreTokenizer final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    pieces.split_each([&](const Piece& old, std::vector<Piece>& out) {
      uint8_t last = 0;
      const auto starts = [&](char32_t c, size_t) {
        const uint8_t script = character_record(c).script;
        if (script == 0) return false;
        return std::exchange(last, script) != script;
      };
      cut_before(pieces, pieces.spelled_in_byte_characters(old), starts, out);
    });
  }
};

class FixedLengthPreTokenizer final : public PreTokenizer {
 public:
  explicit FixedLengthPreTokenizer(size_t length) : length_(length) {}
  void apply(Pieces& pieces) const override {
    pieces.split_each([&](const Piece& old, std::vector<Piece>& out) {
      cut_before(
          pieces, pieces.spelled_in_byte_characters(old),
          [&](char32_t, size_t number) { return number % length_ == 0; }, out);
    });
  }

 private:
  size_t length_;
};

// Runs of word characters and runs of other visible characters; white space is dropped.
class WhitespacePreTokenizer final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    enum class Kind { kSpace, kWord, kOther };
    pieces.split_each([&](const Piece& old, std::vector<Piece>& out) {
      const Piece piece = pieces.spelled_in_byte_characters(old);
      size_t run = 0;
      Kind kind = Kind::kSpace;
      const auto end_run = [&](size_t end) {
        if (kind != Kind::kSpace) out.push_back(pieces.slice(piece, run, end));
        run = end;
      };
      for (size_t at = 0; at < piece.text.size();) {
        const size_t begin = at;
        const char32_t c = next_character(piece.text, at);
        const Kind next = is_word(c) ? Kind::kWord : is_space(c) ? Kind::kSpace : Kind::kOther;
        if (next != kind) end_run(begin);
        kind = next;
      }
      end_run(piece.text.size());
    });
  }
};

class MetaspacePreTokenizer final : public PreTokenizer {
 public:
  enum class Prepend { kFirst, kNever, kAlways };
  MetaspacePreTokenizer(std::string replacement, Prepend prepend, bool split)
      : space_(Pattern::literal(" ")),
        mark_(Pattern::literal(replacement)),
        replacement_(std::move(replacement)),
        prepend_(prepend),
        split_(split) {}
  void apply(Pieces& pieces) const override {
    std::vector<Stretch> stretches;
    pieces.split_each([&](const Piece& old, std::vector<Piece>& out) {
      Piece piece = pieces.spelled_in_byte_characters(old);
      space_.find(piece.text, stretches);
      piece = pieces.replaced(piece, stretches, replacement_);
      const bool may_prepend =
          prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && piece.origin == 0);
      if (may_prepend && piece.text.substr(0, replacement_.size()) != replacement_)
        piece = pieces.prepended(piece, replacement_);
      if (!split_) {
        out.push_back(piece);
        return;
      }
      mark_.find(piece.text, stretches);
      pieces.split(piece, stretches, SplitBehavior::kMergedWithNext, out);
    });
  }

 private:
  Pattern space_, mark_;
  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> parts)
      : parts_(std::move(parts)) {}
  void apply(Pieces& pieces) const override {
    for (const auto& part : parts_) part->apply(pieces);
  }
  WordScan scan() const override {
    if (parts_.size() == 1) return parts_[0]->scan();
    if (parts_.size() != 2 || !parts_[1]->only_marks_bytes() || parts_[0]->scan().byte_level) return {};
    return {parts_[0]->scan().word_end, /*byte_level=*/true};
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

std::unique_ptr<PreTokenizer> make_metaspace(const Json& value, const std::string& where) {
  using Prepend = MetaspacePreTokenizer::Prepend;
  Prepend prepend = Prepend::kAlways;
  if (const Json* scheme = value.find("prepend_scheme")) {
    const std::string& name = scheme->as_string();
    if (name == "first") {
      prepend = Prepend::kFirst;
    } else if (name == "never") {
      prepend = Prepend::kNever;
    } else if (name != "always") {
      fail("{}: unknown prepend_scheme '{}'", where, name);
    }
  }
  // The older spelling of "never".
  if (const Json* add = value.find("add_prefix_space"); add != nullptr && add->is_bool() && !add->as_bool())
    prepend = Prepend::kNever;
  const std::string replacement = one_character(value.at("replacement"), where + ".replacement");
  const Json* split = value.find("split");
  return std::make_unique<MetaspacePreTokenizer>(replacement, prepend,
                                                 split == nullptr || split->is_null() || split->as_bool());
}

std::unique_ptr<PreTokenizer> make_unspelled(const Json& value, const std::string& where) {
  if (value.is_null()) return nullptr;
  const std::string& type = value.at("type").as_string();
  if (type == "ByteLevel") {
    const Json* use_regex = value.find("use_regex");
    return std::make_unique<ByteLevelPreTokenizer>(value.at("add_prefix_space").as_bool(),
                                                   use_regex == nullptr || use_regex->as_bool());
  }
  if (type == "Split")
    return std::make_unique<SplitPreTokenizer>(Pattern::from_json(value.at("pattern"), where + ".pattern"),
                                               split_behavior(value.at("behavior"), where),
                                               value.at("invert").as_bool());
  if (type == "Metaspace") return make_metaspace(value, where);
  if (type == "Digits")
    return std::make_unique<ClassPreTokenizer>(is_numeric, value.at("individual_digits").as_bool()
                                                               ? SplitBehavior::kIsolated
                                                               : SplitBehavior::kContiguous);
  if (type == "Punctuation") {
    const Json* behavior = value.find("behavior");
    return std::make_unique<ClassPreTokenizer>(
        is_punctuation, behavior == nullptr ? SplitBehavior::kIsolated : split_behavior(*behavior, where));
  }
  if (type == "Whitespace") return std::make_unique<WhitespacePreTokenizer>();
  if (type == "WhitespaceSplit")
    return std::make_unique<ClassPreTokenizer>(is_space, SplitBehavior::kRemoved);
  if (type == "BertPreTokenizer") {
    std::vector<std::unique_ptr<PreTokenizer>> parts;
    parts.push_back(std::make_unique<ClassPreTokenizer>(is_space, SplitBehavior::kRemoved));
    parts.push_back(std::make_unique<ClassPreTokenizer>(is_punctuation, SplitBehavior::kIsolated));
    return std::make_unique<PreTokenizerSequence>(std::move(parts));
  }
  if (type == "CharDelimiterSplit")
    return std::make_unique<SplitPreTokenizer>(Pattern::literal(one_character(value.at("delimiter"), where)),
                                               SplitBehavior::kRemoved, /*invert=*/false);
  if (type == "UnicodeScripts") return std::make_unique<ScriptsPreTokenizer>();
  if (type == "FixedLength") {
    const Json* length = value.find("length");
    const int64_t count = length == nullptr ? 5 : length->as_int();
    if (count < 1) fail("{}: FixedLength of {} characters; it must be at least 1", where, count);
    return std::make_unique<FixedLengthPreTokenizer>(static_cast<size_t>(count));
  }
  if (type == "Sequence") {
    std::vector<std::unique_ptr<PreTokenizer>> parts;
    for (const Json& part : value.at("pretokenizers").as_array())
      if (auto pre_tokenizer = make_pre_tokenizer(part, where)) parts.push_back(std::move(pre_tokenizer));
    return std::make_unique<PreTokenizerSequence>(std::move(parts));
  }
  fail("{}: the pre-tokenizer '{}' is not supported", where, type);
}

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& value, const std::string& where) {
  std::unique_ptr<PreTokenizer> made = make_unspelled(value, where);
  if (made != nullptr) made->set_json(value);
  return made;
}

}  // namespace serval
