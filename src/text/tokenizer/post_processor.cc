#include "text/tokenizer/post_processor.h"

#include <algorithm>

#include "base/error.h"
#include "text/tokenizer/characters.h"

namespace serval {
namespace {

constexpr size_t kMaxTemplateIds = 4096;

int32_t token_id(const Json& value, const std::string& where) {
  const int64_t id = value.as_int();
  if (id < 0 || id >= (1 << 24)) fail("{}: {} is not a token id", where, id);
  return static_cast<int32_t>(id);
}

// The text with ids before and behind it; also what templates of one text come down to.
class TemplateProcessor final : public PostProcessor {
 public:
  using Part = std::optional<int32_t>;  // nullopt: the text
  explicit TemplateProcessor(std::vector<Part> parts) : parts_(std::move(parts)) {}

  void apply(std::string_view, std::vector<PlacedToken>& tokens, bool add_special_tokens) const override {
    const auto text = std::find(parts_.begin(), parts_.end(), std::nullopt);
    if (text == parts_.end()) tokens.clear();
    if (!add_special_tokens) return;
    const auto place = [&](auto begin, auto end, size_t at) {
      std::vector<PlacedToken> added;
      for (auto part = begin; part != end; ++part) added.push_back({**part, {}, {}});
      tokens.insert(tokens.begin() + static_cast<ptrdiff_t>(at), added.begin(), added.end());
    };
    if (text != parts_.end()) place(text + 1, parts_.end(), tokens.size());
    place(parts_.begin(), text, 0);
  }

 private:
  std::vector<Part> parts_;
};

// Leaves the white space at both ends of a token out of its span.
class TrimProcessor final : public PostProcessor {
 public:
  explicit TrimProcessor(bool add_prefix_space) : add_prefix_space_(add_prefix_space) {}
  bool reads_text() const override { return true; }

  void apply(std::string_view input, std::vector<PlacedToken>& tokens, bool) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      InputSpan& span = tokens[i].span;
      size_t leading = count_spaces(tokens[i].text);
      const size_t trailing = count_trailing_spaces(tokens[i].text);
      // The one space before the first word was added by the tokenizer and stands for nothing in the text.
      const bool is_first = i == 0 || span.begin == 0;
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

 private:
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
  void apply(std::string_view input, std::vector<PlacedToken>& tokens,
             bool add_special_tokens) const override {
    for (const auto& part : parts_) part->apply(input, tokens, add_special_tokens);
  }
  bool reads_text() const override {
    return std::any_of(parts_.begin(), parts_.end(), [](const auto& part) { return part->reads_text(); });
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> parts_;
};

std::unique_ptr<PostProcessor> make_template(const Json& value, const std::string& where) {
  std::vector<TemplateProcessor::Part> parts;
  for (const Json& piece : value.at("single").as_array()) {
    if (const Json* sequence = piece.find("Sequence")) {
      if (sequence->at("id").as_string() != "A")
        fail("{}: the template of one text names a second one", where);
      // Each place would hold the whole text once more.
      if (std::count(parts.begin(), parts.end(), std::nullopt) > 0)
        fail("{}: the template of one text holds it twice, which is not supported", where);
      parts.push_back(std::nullopt);
      continue;
    }
    const std::string& name = piece.at("SpecialToken").at("id").as_string();
    const Json* token = value.at("special_tokens").find(name);
    if (token == nullptr)
      fail("{}: the template uses '{}', which special_tokens does not define", where, name);
    for (const Json& id : token->at("ids").as_array()) parts.push_back(token_id(id, where));
    if (parts.size() > kMaxTemplateIds) fail("{}: a template of more than {} ids", where, kMaxTemplateIds);
  }
  return std::make_unique<TemplateProcessor>(std::move(parts));
}

// BERT's and RoBERTa's "cls" and "sep": ["<s>", 0].
SpelledToken spelled_token(const Json& value, const std::string& where) {
  const Json::Array& pair = value.as_array();
  if (pair.size() != 2) fail("{}: expected [token, id], found {}", where, value.dump());
  return {pair[0].as_string(), token_id(pair[1], where)};
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
    parts.push_back(make_wrapping_post_processor({spelled_token(value.at("cls"), where)},
                                                 {spelled_token(value.at("sep"), where)}));
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
  std::vector<TemplateProcessor::Part> parts;
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
  for (const SpelledToken& one : before) parts.emplace_back(one.id);
  parts.push_back(std::nullopt);
  for (const SpelledToken& one : behind) parts.emplace_back(one.id);
  auto made = std::make_unique<TemplateProcessor>(std::move(parts));
  if (before.empty() && behind.empty()) return made;
  Json json = Json::object();
  json.set("type", "TemplateProcessing");
  json.set("single", std::move(single));
  json.set("pair", std::move(pair));
  json.set("special_tokens", std::move(special));
  made->set_json(std::move(json));
  return made;
}

std::unique_ptr<PostProcessor> make_post_processor(const Json& value, const std::string& where) {
  std::unique_ptr<PostProcessor> made = make_unspelled(value, where);
  if (made != nullptr) made->set_json(value);
  return made;
}

}  // namespace serval
