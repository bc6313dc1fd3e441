#include "data/preview.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "data/group_example.h"

namespace serval {
namespace {

void append_visible(std::string_view text, std::string& out) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F are control characters too; in UTF-8 they are C2 80 to C2 9F.
    const bool high_control =
        c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (high_control) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
    } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += text[i];
    }
  }
}

}  // namespace

std::string preview_text(std::span<const PreviewPiece> pieces, bool colour) {
  const std::string_view open = colour ? "\x1b[32m" : "[[", close = colour ? "\x1b[0m" : "]]";
  std::string result;
  bool trained = false;
  for (const PreviewPiece& piece : pieces) {
    if (piece.text.empty()) continue;
    if (piece.trained != trained) result += piece.trained ? open : close;
    trained = piece.trained;
    append_visible(piece.text, result);
  }
  if (trained) result += close;
  return result;
}

namespace {

// The text of each token; a character of several tokens appears with the one that completes it.
std::vector<PreviewPiece> pieces_of(const Examples& examples, int64_t example, const Tokenizer& tokenizer) {
  DecodeStream stream(tokenizer, /*skip_special_tokens=*/false);
  std::vector<PreviewPiece> pieces;
  const auto ids = examples.ids(example);
  for (size_t token = 0; token < ids.size(); ++token) {
    const bool label = token > 0 && examples.trained(example, static_cast<int64_t>(token));
    pieces.push_back({stream.push(ids[token]), label});
  }
  if (!pieces.empty()) pieces.back().text += stream.finish();
  return pieces;
}

std::string in_html(std::string_view text) {
  std::string visible, result;
  append_visible(text, visible);
  for (const char c : visible) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace

std::string preview_examples(const Examples& examples, const Tokenizer& tokenizer, int64_t count, bool colour,
                             RowKind kind) {
  std::string result;
  const int64_t group = documents_of(kind);
  for (int64_t i = 0; i < std::min(count * group, examples.size()); ++i)
    result += fmt::format("--- example {}{}: {} tokens, {} trained on {}\n{}\n", i / group + 1,
                          description_of(kind, i % group, examples.values(i)), examples.length(i),
                          examples.labels(i), colour ? "(coloured)" : "(in [[ ]])",
                          preview_text(pieces_of(examples, i, tokenizer), colour));
  return result;
}

std::string preview_ids(const Examples& examples, int64_t example, const Tokenizer& tokenizer, bool colour) {
  constexpr size_t kWidth = 100;
  const auto pieces = pieces_of(examples, example, tokenizer);
  const auto ids = examples.ids(example);
  std::string result, line;
  size_t width = 0;  // without the colours
  for (size_t i = 0; i < pieces.size(); ++i) {
    std::string text;
    append_visible(replace_all(replace_all(pieces[i].text, "\n", "\\n"), "\t", "\\t"), text);
    const std::string token = fmt::format("{}:'{}'", ids[i], text);
    if (width > 0 && width + token.size() > kWidth) {
      result += line + "\n";
      line.clear();
      width = 0;
    }
    line += (width > 0 ? " " : "") + (!pieces[i].trained ? token
                                      : colour           ? "\x1b[32m" + token + "\x1b[0m"
                                                         : "[[" + token + "]]");
    width += token.size() + 1;
  }
  return result + line + "\n";
}

std::string preview_html(const Examples& examples, const Tokenizer& tokenizer, int64_t count,
                         const std::string& title) {
  std::string page = fmt::format(
      "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{0}</title>\n<style>\n"
      "body {{ font: 15px/1.9 sans-serif; margin: 2em; }}\n"
      ".t {{ display: inline-block; white-space: pre-wrap; vertical-align: top; border-left: 1px solid #ddd; "
      "}}\n"
      ".t small {{ display: block; color: #999; font: 9px/1 monospace; }}\n"
      ".trained {{ background: #b7f0c0; }}\n</style>\n<h1>{0}</h1>\n"
      "<p>What is trained on is <span class=\"trained\">green</span>; below each token stands its id.</p>\n",
      in_html(title));
  for (int64_t i = 0; i < std::min(count, examples.size()); ++i) {
    page += fmt::format("<h2>Example {}: {} tokens, {} trained on</h2>\n<p>", i + 1, examples.length(i),
                        examples.labels(i));
    const auto pieces = pieces_of(examples, i, tokenizer);
    const auto ids = examples.ids(i);
    for (size_t token = 0; token < pieces.size(); ++token) {
      page += fmt::format("<span class=\"t{}\">{}<small>{}</small></span>",
                          pieces[token].trained ? " trained" : "",
                          in_html(replace_all(pieces[token].text, "\n", "\u21b5")), ids[token]);
      if (pieces[token].text.find('\n') != std::string::npos) page += "<br>\n";
    }
    page += "</p>\n";
  }
  return page;
}

}  // namespace serval
