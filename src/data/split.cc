#include "data/split.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

[[noreturn]] void refuse(std::string_view text, const std::string& where) {
  fail(
      "{}: {} is no split; expected a name and perhaps a slice, such as train, train[:10%], "
      "train[100:200]+validation",
      where, in_quotes(text));
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  });
}

std::optional<SplitPart::Bound> parse_bound(std::string_view text, std::string_view whole,
                                            const std::string& where) {
  text = trim(text);
  if (text.empty()) return std::nullopt;
  SplitPart::Bound bound;
  if (text.back() == '%') {
    bound.percent = true;
    text.remove_suffix(1);
  }
  const std::string digits = replace_all(std::string(text), "_", "");
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bound.value);
  if (error != std::errc() || end != digits.data() + digits.size()) refuse(whole, where);
  if (bound.percent && (bound.value < -100 || bound.value > 100))
    fail("{}: {} has {} %, expected -100 to 100", where, in_quotes(whole), bound.value);
  return bound;
}

SplitPart parse_part(std::string_view part, std::string_view whole, const std::string& where) {
  SplitPart result;
  part = trim(part);
  if (ends_with(part, "(closest)")) {
    part.remove_suffix(std::string_view("(closest)").size());
  } else if (ends_with(part, "(pct1_dropremainder)")) {
    part.remove_suffix(std::string_view("(pct1_dropremainder)").size());
    result.drop_remainder = true;
  }
  const size_t open = part.find('[');
  result.name = trim(part.substr(0, open));
  if (!is_name(result.name)) refuse(whole, where);
  if (open == std::string_view::npos) return result;
  if (part.back() != ']') refuse(whole, where);
  const std::string_view slice = part.substr(open + 1, part.size() - open - 2);
  const size_t colon = slice.find(':');
  if (colon == std::string_view::npos) refuse(whole, where);
  result.from = parse_bound(slice.substr(0, colon), whole, where);
  result.to = parse_bound(slice.substr(colon + 1), whole, where);
  return result;
}

}  // namespace

std::pair<int64_t, int64_t> SplitPart::rows_of(int64_t size, const std::string& where) const {
  const auto row_of = [&](const std::optional<Bound>& bound, int64_t absent) {
    if (!bound) return absent;
    int64_t row = bound->value;
    if (bound->percent)
      row = drop_remainder ? bound->value * (size / 100)
                           : static_cast<int64_t>(std::nearbyint(static_cast<double>(bound->value) *
                                                                 static_cast<double>(size) / 100.0));
    if (row < 0) row = std::max(row + size, int64_t{0});
    return std::min(row, size);
  };
  const int64_t begin = row_of(from, 0), end = row_of(to, size);
  if (begin >= end) fail("{}: the slice of '{}' holds no row of its {}", where, name, size);
  return {begin, end};
}

std::vector<SplitPart> parse_split(std::string_view text, const std::string& where) {
  if (trim(text).empty()) return {SplitPart{.name = "train"}};
  std::vector<SplitPart> parts;
  for (const std::string& part : split(text, '+')) parts.push_back(parse_part(part, text, where));
  return parts;
}

}  // namespace serval
