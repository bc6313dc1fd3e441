#include "text/tokenizer/post_processor.h"

#include <algorithm>

#include "base/error.h"
#include "text/tokenizer/characters.h"

namespace serval {
namespace {

constexpr size_t kMaxTemplateIds = 4096;
constexpr std::ptrdiff_t kMaxTemplateTexts = 16;

int32_t token_id(const Json& value, const std::string& where) {
  const int64_t id = value.as_int();
  if (id < 0 || id >= (1 << 24)) fail("{}: {} is not a token id", where, id);
  return static_cast<int32_t>(id);
}

// Calls f(begin, end) for each part.
template <class F>
void for_each_part(const PlacedTokens& tokens, const F& f) {
  if (tokens.part_ends.empty()) return f(size_t{0}, tokens.list.size());
  size_t begin = 0;
  for (const size_t end : tokens.part_ends) {
    f(begin, end);
    begin = end;
  }
}

// Ids and the text between them. Behind another template it gets two parts and uses `pair`.
class TemplateProcessor final : public PostProcessor {
 public:
  struct Piece {
    int sequence = -1;  // 0 or 1: that part of the text; -1: the ids
    std::vector<int32_t> ids;
  };
  TemplateProcessor(std::vector<Piece> single, std::vector<Piece> pair, std::string where)
      : single_(std::move(single)), pair_(std::move(pair)), where_(std::move(where)) {}

  void apply(std::string_view, PlacedTokens& tokens, bool add_special_tokens) const override {
    std::vector<std::pair<size_t, size_t>> parts;
    for_each_part(tokens, [&](size_t begin, size_t end) { parts.emplace_back(begin, end); });
    if (parts.size() > 2)
      fail("{}: the template follows one that makes {} parts of a text; it can take two", where_,
           parts.size());
    PlacedTokens result;
    const std::vector<Piece>& pieces = parts.size() == 2 ? pair_ : single_;
    result.list.reserve(tokens.list.size() + pieces.size());
    for (const Piece& piece : pieces) {
      if (piece.sequence >= 0) {
        const auto [begin, end] = parts[static_cast<size_t>(piece.sequence)];
        result.list.insert(result.list.end(), tokens.list.begin() + static_cast<ptrdiff_t>(begin),
                           tokens.list.begin() + static_cast<ptrdiff_t>(end));
      } else if (add_special_tokens) {
        for (const int32_t id : piece.ids) result.list.push_back({id, {}, {}});
      } else {
        continue;
      }
      result.part_ends.push_back(result.list.size());
    }
    tokens = std::move(result);
  }

 private:
  std::vector<Piece> single_, pair_;
  std::string where_;
};

// Ids before the text, behind it, and before each further part, which gets those behind it too.
class WrappingProcessor final : public PostProcessor {
 public:
  WrappingProcessor(std::vector<int32_t> before, std::vector<int32_t> behind, std::vector<int32_t> between)
      : before_(std::move(before)), behind_(std::move(behind)), between_(std::move(between)) {}

  void apply(std::string_view, PlacedTokens& tokens, bool add_special_tokens) const override {
    if (!add_special_tokens) return;
    const auto put = [](std::vector<PlacedToken>& list, size_t at, const std::vector<int32_t>& ids) {
      list.insert(list.begin() + static_cast<ptrdiff_t>(at), ids.size(), PlacedToken{});
      for (size_t i = 0; i < ids.size(); ++i) list[at + i].id = ids[i];
    };
    if (tokens.part_ends.size() <= 1) {
      put(tokens.list, tokens.list.size(), behind_);
      put(tokens.list, 0, before_);
      tokens.part_ends.clear();
      return;
    }
    PlacedTokens result;
    for_each_part(tokens, [&](size_t begin, size_t end) {
      put(result.list, result.list.size(), begin == 0 && result.part_ends.empty() ? before_ : between_);
      result.list.insert(result.list.end(), tokens.list.begin() + static_cast<ptrdiff_t>(begin),
                         tokens.list.begin() + static_cast<ptrdiff_t>(end));
      put(result.list, result.list.size(), behind_);
      result.part_ends.push_back(result.list.size());
    });
    tokens = std::move(result);
  }

 private:
  std::vector<int32_t> before_, behind_, between_;
};

// Leaves the white space at both ends of a token out of its span.
class TrimProcessor final : public PostProcessor {
 public:
  explicit TrimProcessor(bool add_prefix_space) : add_prefix_space_(add_prefix_space) {}
  bool reads_text() const override { return true; }

  void apply(std::string_view input, PlacedTokens& tokens, bool) const override {
    for_each_part(tokens, [&](size_t begin, size_t end) { trim(input, tokens.list, begin, end); });
  }

 private:
  void trim(std::string_view input, std::vector<PlacedToken>& tokens, size_t first, size_t last) const {
    for (size_t i = first; i < last; ++i) {
      InputSpan& span = tokens[i].span;
      size_t leading = count_spaces(tokens[i].text);
      const size_t trailing = count_trailing_spaces(tokens[i].text);
      // The one space before the first word was added by the tokenizer and stands for nothing in the text.
      const bool is_first = i == first || span.begin == 0;
      if (is_first && add_prefix_space_ && leading == 1) leading = 0;
      for (size_t n = 0; n < leading && span.begin < span.end; ++n) {
        auto at = static_cast<size_t>(span.begin);
        next_character(input, at);
        span.begin = static_cast<int32_t>(at);
      }
      for (size_t n = 0; n < trailing && span.end > span.begin; ++n) do
          --span.end;
        while (span.end > span.begin && is_continuation(input[static_cast<size_t>(span.end)]));
    }
  }
  static bool is_blank(char32_t c) { return c == 0x120 || is_space(c); }  // U+0120 stands for the space byte
  static size_t count_spaces(std::string_view text) {
    size_t count = 0;
    for (size_t at = 0; at < text.size() && is_blank(next_character(text, at));) ++count;
    return count;
  }
  static size_t count_trailing_spaces(std::string_view text) {
    size_t count = 0;
    while (!text.empty() && is_blank(last_character(text))) {
      ++count;
      while (text.size() > 1 && is_continuation(text.back())) text.remove_suffix(1);
      text.remove_suffix(1);
    }
    return count;
  }
  bool add_prefix_space_;
};

class PostProcessorSequence final : public PostProcessor {
 public:
  explicit PostProcessorSequence(std::vector<std::unique_ptr<PostProcessor>> parts)
      : parts_(std::move(parts)) {}
  void apply(std::string_view input, PlacedTokens& tokens, bool add_special_tokens) const override {
    for (const auto& part : parts_) part->apply(input, tokens, add_special_tokens);
  }
  bool reads_text() const override {
    return std::any_of(parts_.begin(), parts_.end(), [](const auto& part) { return part->reads_text(); });
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> parts_;
};

std::vector<TemplateProcessor::Piece> template_pieces(const Json& value, const char* key,
                                                      const std::string& where) {
  const bool is_pair = std::string_view(key) == "pair";
  std::vector<TemplateProcessor::Piece> pieces;
  size_t ids = 0;
  std::ptrdiff_t texts = 0;
  for (const Json& part : value.at(key).as_array()) {
    TemplateProcessor::Piece& piece = pieces.emplace_back();
    if (const Json* sequence = part.find("Sequence")) {
      const std::string& id = sequence->at("id").as_string();
      if (id != "A" && !(id == "B" && is_pair)) fail("{}.{}: the template names a text '{}'", where, key, id);
      piece.sequence = id == "A" ? 0 : 1;
      // Each place holds the whole text once more.
      if (++texts > kMaxTemplateTexts)
        fail("{}.{}: the template holds the text more than {} times", where, key, kMaxTemplateTexts);
      continue;
    }
    const std::string& name = part.at("SpecialToken").at("id").as_string();
    const Json* token = value.at("special_tokens").find(name);
    if (token == nullptr)
      fail("{}: the template uses '{}', which special_tokens does not define", where, name);
    for (const Json& id : token->at("ids").as_array()) piece.ids.push_back(token_id(id, where));
    if ((ids += piece.ids.size()) > kMaxTemplateIds)
      fail("{}: a template of more than {} ids", where, kMaxTemplateIds);
  }
  return pieces;
}

std::unique_ptr<PostProcessor> make_template(const Json& value, const std::string& where) {
  // A pair of texts is never encoded here, but a template behind a template needs it.
  std::vector<TemplateProcessor::Piece> pair;
  if (value.contains("pair")) pair = template_pieces(value, "pair", where);
  return std::make_unique<TemplateProcessor>(template_pieces(value, "single", where), std::move(pair), where);
}

// BERT's and RoBERTa's "cls" and "sep": ["<s>", 0].
int32_t named_id(const Json& value, const std::string& where) {
  const Json::Array& pair = value.as_array();
  if (pair.size() != 2) fail("{}: expected [token, id], found {}", where, value.dump());
  return token_id(pair[1], where);
}

std::unique_ptr<PostProcessor> make_unspelled(const Json& value, const std::string& where) {
  if (value.is_null()) return nullptr;
  const std::string& type = value.at("type").as_string();
  if (type == "TemplateProcessing") return make_template(value, where);
  std::vector<std::unique_ptr<PostProcessor>> parts;
  if (type == "ByteLevel") {
    if (value.at("trim_offsets").as_bool())
      parts.push_back(std::make_unique<TrimProcessor>(value.at("add_prefix_space").as_bool()));
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    if (type == "RobertaProcessing" && value.at("trim_offsets").as_bool())
      parts.push_back(std::make_unique<TrimProcessor>(value.at("add_prefix_space").as_bool()));
    const std::vector<int32_t> cls = {named_id(value.at("cls"), where)};
    const std::vector<int32_t> sep = {named_id(value.at("sep"), where)};
    parts.push_back(std::make_unique<WrappingProcessor>(
        cls, sep, type == "RobertaProcessing" ? sep : std::vector<int32_t>()));
  } else if (type == "Sequence") {
    for (const Json& part : value.at("processors").as_array())
      if (auto processor = make_post_processor(part, where)) parts.push_back(std::move(processor));
  } else {
    fail("{}: the post-processor '{}' is not supported", where, type);
  }
  return std::make_unique<PostProcessorSequence>(std::move(parts));
}

}  // namespace

std::unique_ptr<PostProcessor> make_wrapping_post_processor(const std::vector<SpelledToken>& before,
                                                            const std::vector<SpelledToken>& behind) {
  Json special = Json::object();
  const auto token = [&](Json& list, const SpelledToken& one, int type) {
    Json reference = Json::object(), entry = Json::object();
    reference.set("id", one.text);
    reference.set("type_id", type);
    entry.set("SpecialToken", std::move(reference));
    list.push_back(std::move(entry));
    Json listed = Json::object();
    listed.set("id", one.text);
    listed.set("ids", Json::Array{static_cast<int64_t>(one.id)});
    listed.set("tokens", Json::Array{one.text});
    special.set(one.text, std::move(listed));
  };
  const auto text = [&](Json& list, const char* name, int type) {
    Json sequence = Json::object(), entry = Json::object();
    sequence.set("id", name);
    sequence.set("type_id", type);
    entry.set("Sequence", std::move(sequence));
    list.push_back(std::move(entry));
  };
  Json single = Json::array(), pair = Json::array();
  const auto wrap = [&](Json& list, const char* name, int type) {
    for (const SpelledToken& one : before) token(list, one, type);
    text(list, name, type);
    for (const SpelledToken& one : behind) token(list, one, type);
  };
  wrap(single, "A", 0);
  wrap(pair, "A", 0);
  wrap(pair, "B", 1);
  Json json = Json::object();
  json.set("type", "TemplateProcessing");
  json.set("single", std::move(single));
  json.set("pair", std::move(pair));
  json.set("special_tokens", std::move(special));
  auto made = make_template(json, "the tokens around a text");
  if (!before.empty() || !behind.empty()) made->set_json(std::move(json));
  return made;
}

std::unique_ptr<PostProcessor> make_post_processor(const Json& value, const std::string& where) {
  std::unique_ptr<PostProcessor> made = make_unspelled(value, where);
  if (made != nullptr) made->set_json(value);
  return made;
}

}  // namespace serval
