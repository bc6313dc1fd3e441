#include "text/tokenizer/decoder.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/json_values.h"
#include "text/tokenizer/regex.h"

namespace serval {
namespace {

constexpr const char* kReplacementCharacter = "\xEF\xBF\xBD";

void replace_with(std::vector<std::string>& tokens, std::string text) {
  tokens.clear();
  tokens.push_back(std::move(text));
}

class ByteLevelDecoder final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string bytes, token_bytes;
    for (const std::string& token : tokens) {
      token_bytes.clear();
      bool all_bytes = true;
      for (size_t at = 0; at < token.size() && all_bytes;) {
        const int byte = byte_of_character(next_character(token, at));
        all_bytes = byte >= 0;
        token_bytes += static_cast<char>(byte);
      }
      // A token with any other character stands for itself.
      bytes += all_bytes ? token_bytes : token;
    }
    replace_with(tokens, to_valid_utf8(bytes));
  }
};

class MetaspaceDecoder final : public Decoder {
 public:
  MetaspaceDecoder(std::string replacement, bool drops_first)
      : replacement_(std::move(replacement)), drops_first_(drops_first) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string text;
      for (size_t at = 0; at < tokens[i].size();) {
        if (tokens[i].compare(at, replacement_.size(), replacement_) == 0) {
          if (i > 0 || !drops_first_) text += ' ';
          at += replacement_.size();
        } else {
          text += tokens[i][at++];
        }
      }
      tokens[i] = std::move(text);
    }
  }

 private:
  std::string replacement_;
  bool drops_first_;
};

class ReplaceDecoder final : public Decoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::vector<std::string>& tokens) const override {
    std::vector<Stretch> stretches;
    size_t before = 0, after = 0;
    for (std::string& token : tokens) {
      pattern_.find(token, stretches);
      before += token.size();
      std::string text;
      for (const Stretch& s : stretches) {
        if (s.is_match) {
          text += content_;
        } else {
          text.append(token, s.begin, s.end - s.begin);
        }
        if (after + text.size() > before * 64 + (size_t{1} << 20))
          fail("the tokenizer's decoder makes more than {} bytes of {}", after + text.size(), before);
      }
      after += text.size();
      token = std::move(text);
    }
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// All of `from` become `to`; an empty `from` stands between all characters, and at both ends.
std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  if (from.empty()) {
    out = to;
    while (at < text.size()) {
      const size_t begin = at;
      next_character(text, at);
      out += text.substr(begin, at - begin);
      out += to;
    }
    return out;
  }
  for (size_t found; (found = text.find(from, at)) != std::string_view::npos; at = found + from.size()) {
    out += text.substr(at, found - at);
    out += to;
  }
  return out += text.substr(at);
}

// What WordPiece decoders take back of the blanks that splitting put around punctuation.
std::string without_split_blanks(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> kChanges[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [from, to] : kChanges) text = replaced(text, from, to);
  return text;
}

class BpeDecoder final : public Decoder {
 public:
  explicit BpeDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = replaced(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
  }

 private:
  std::string suffix_;
};

class WordPieceDecoder final : public Decoder {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      if (i > 0) token = starts_with(token, prefix_) ? token.substr(prefix_.size()) : " " + token;
      if (cleanup_) token = without_split_blanks(std::move(token));
    }
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

// Of speech models: equal neighbours are one, and a token stands for the pause between words.
class CtcDecoder final : public Decoder {
 public:
  CtcDecoder(std::string pad, std::string delimiter, bool cleanup)
      : pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleanup_(cleanup) {}
  void apply(std::vector<std::string>& tokens) const override {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (std::string& token : tokens) {
      token = replaced(token, pad_, "");
      if (cleanup_) token = replaced(without_split_blanks(std::move(token)), delimiter_, " ");
    }
    std::erase(tokens, "");
  }

 private:
  std::string pad_, delimiter_;
  bool cleanup_;
};

class ByteFallbackDecoder final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::vector<std::string> result;
    std::string bytes;  // of the run of <0xNN> so far
    const auto end_run = [&] {
      if (bytes.empty()) return;
      if (valid_utf8_prefix(bytes).ill_formed == 0) {
        result.push_back(bytes);
      } else {
        result.insert(result.end(), bytes.size(), kReplacementCharacter);
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const int byte = byte_of(token); byte >= 0) {
        bytes += static_cast<char>(byte);
        continue;
      }
      end_run();
      result.push_back(std::move(token));
    }
    end_run();
    tokens = std::move(result);
  }

 private:
  static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  }
  static int byte_of(const std::string& token) {
    if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token[5] != '>') return -1;
    const int high = hex_digit(token[3]), low = hex_digit(token[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
  }
};

class FuseDecoder final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string text;
    for (const std::string& token : tokens) text += token;
    replace_with(tokens, std::move(text));
  }
};

// Cuts up to `start` and `stop` of the character off the ends of every token.
class StripDecoder final : public Decoder {
 public:
  StripDecoder(std::string character, int64_t start, int64_t stop)
      : character_(std::move(character)), start_(start), stop_(stop) {}
  void apply(std::vector<std::string>& tokens) const override {
    const size_t size = character_.size();
    for (std::string& token : tokens) {
      size_t begin = 0, end = token.size();
      for (int64_t i = 0; i < start_ && token.compare(begin, size, character_) == 0; ++i) begin += size;
      for (int64_t i = 0;
           i < stop_ && end >= begin + size && token.compare(end - size, size, character_) == 0; ++i)
        end -= size;
      token = token.substr(begin, end - begin);
    }
  }

 private:
  std::string character_;
  int64_t start_, stop_;
};

class DecoderSequence final : public Decoder {
 public:
  explicit DecoderSequence(std::vector<std::unique_ptr<Decoder>> parts) : parts_(std::move(parts)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (const auto& part : parts_) part->apply(tokens);
  }

 private:
  std::vector<std::unique_ptr<Decoder>> parts_;
};

std::unique_ptr<Decoder> make_unspelled(const Json& value, const std::string& where) {
  if (value.is_null()) return nullptr;
  const std::string& type = value.at("type").as_string();
  if (type == "ByteLevel") return std::make_unique<ByteLevelDecoder>();
  if (type == "ByteFallback") return std::make_unique<ByteFallbackDecoder>();
  if (type == "Fuse") return std::make_unique<FuseDecoder>();
  if (type == "Replace")
    return std::make_unique<ReplaceDecoder>(Pattern::from_json(value.at("pattern"), where + ".pattern"),
                                            value.at("content").as_string());
  if (type == "Strip")
    return std::make_unique<StripDecoder>(one_character(value.at("content"), where + ".content"),
                                          value.at("start").as_int(), value.at("stop").as_int());
  if (type == "Metaspace") {
    const Json* scheme = value.find("prepend_scheme");
    const Json* add = value.find("add_prefix_space");
    const bool never = (scheme != nullptr && scheme->as_string() == "never") ||
                       (add != nullptr && add->is_bool() && !add->as_bool());
    return std::make_unique<MetaspaceDecoder>(one_character(value.at("replacement"), where + ".replacement"),
                                              !never);
  }
  if (type == "BPEDecoder") return std::make_unique<BpeDecoder>(value.at("suffix").as_string());
  if (type == "WordPiece")
    return std::make_unique<WordPieceDecoder>(value.at("prefix").as_string(), value.at("cleanup").as_bool());
  if (type == "CTC")
    return std::make_unique<CtcDecoder>(value.at("pad_token").as_string(),
                                        value.at("word_delimiter_token").as_string(),
                                        value.at("cleanup").as_bool());
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Decoder>> parts;
    for (const Json& part : value.at("decoders").as_array())
      if (auto decoder = make_decoder(part, where)) parts.push_back(std::move(decoder));
    return std::make_unique<DecoderSequence>(std::move(parts));
  }
  fail("{}: the decoder '{}' is not supported", where, type);
}

}  // namespace

Json byte_level_decoder() {
  return Json(Json::Object{
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}});
}

std::unique_ptr<Decoder> make_decoder(const Json& value, const std::string& where) {
  std::unique_ptr<Decoder> made = make_unspelled(value, where);
  if (made != nullptr) made->set_json(value);
  return made;
}

}  // namespace serval
