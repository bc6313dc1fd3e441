#include "data/mask.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

bool all_blank(std::string_view text) {
  return trim(text).empty();
}

bool inside(std::string_view text, const Encoding::Span& token, const TextSpan& span) {
  const int64_t begin = std::max(token.begin, span.begin), end = std::min(token.end, span.end);
  if (begin >= end) return false;
  const auto part = [&](int64_t from, int64_t to) {
    return text.substr(static_cast<size_t>(from), static_cast<size_t>(to - from));
  };
  return all_blank(part(token.begin, begin)) && all_blank(part(end, token.end));
}

}  // namespace

size_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

std::vector<bool> tokens_inside(std::string_view text, const Encoding& tokens,
                                std::span<const TextSpan> spans) {
  std::vector<bool> result(tokens.ids.size(), false);
  size_t first = 0;  // spans before it end before the token: both are in order
  for (size_t i = 0; i < result.size(); ++i) {
    while (first < spans.size() && spans[first].end <= tokens.spans[i].begin) ++first;
    if (first < spans.size()) result[i] = inside(text, tokens.spans[i], spans[first]);
  }
  return result;
}

std::vector<bool> tokens_of_completion(std::string_view text, const Encoding& whole,
                                       std::span<const int32_t> prompt_ids,
                                       std::optional<int64_t> prompt_bytes) {
  std::vector<bool> result(whole.ids.size(), false);
  for (size_t i = common_prefix(prompt_ids, whole.ids); i < result.size(); ++i) {
    const Encoding::Span& token = whole.spans[i];
    const TextSpan completion{prompt_bytes.value_or(0), static_cast<int64_t>(text.size())};
    // A token without bytes was added by the tokenizer, such as an end-of-text token.
    result[i] = !prompt_bytes || token.begin == token.end || inside(text, token, completion);
  }
  return result;
}

std::vector<bool> tokens_of_responses(std::span<const int32_t> ids, std::span<const int32_t> instruction,
                                      std::span<const int32_t> response, bool last_only) {
  SERVAL_CHECK(!instruction.empty() && !response.empty());
  std::vector<bool> result(ids.size(), false);
  auto from = ids.begin();
  if (last_only) from = std::find_end(ids.begin(), ids.end(), response.begin(), response.end());
  while (true) {
    from = std::search(from, ids.end(), response.begin(), response.end());
    if (from == ids.end()) return result;
    const auto begin = from + static_cast<std::ptrdiff_t>(response.size());
    const auto end = std::search(begin, ids.end(), instruction.begin(), instruction.end());
    std::fill(result.begin() + (begin - ids.begin()), result.begin() + (end - ids.begin()), true);
    if (end == ids.end()) return result;
    from = end + static_cast<std::ptrdiff_t>(instruction.size());
  }
}

}  // namespace serval
