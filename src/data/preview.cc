#include "data/preview.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>
#include <vector>

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

std::string preview_examples(const Examples& examples, const Tokenizer& tokenizer, int64_t count,
                             bool colour) {
  std::string result;
  for (int64_t i = 0; i < std::min(count, examples.size()); ++i) {
    // A character of several tokens appears with the token that completes it.
    DecodeStream stream(tokenizer, /*skip_special_tokens=*/false);
    std::vector<PreviewPiece> pieces;
    const auto ids = examples.ids(i);
    for (size_t token = 0; token < ids.size(); ++token) {
      const bool label = token > 0 && examples.trained(i, static_cast<int64_t>(token));
      pieces.push_back({stream.push(ids[token]), label});
    }
    pieces.push_back({stream.finish(), !pieces.empty() && pieces.back().trained});
    result +=
        fmt::format("--- example {}: {} tokens, {} trained on {}\n{}\n", i + 1, ids.size(),
                    examples.labels(i), colour ? "(coloured)" : "(in [[ ]])", preview_text(pieces, colour));
  }
  return result;
}

}  // namespace serval
