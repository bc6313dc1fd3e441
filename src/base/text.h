// Small helpers on strings that several floors share.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace serval {

// The candidate nearest to `word` by edit distance (swaps count once), or "" when none is near enough to be
// what the user meant.
std::string nearest_name(std::string_view word, std::span<const std::string> candidates);

std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);  // blanks at both ends
std::string join(std::span<const std::string> parts, std::string_view separator);
bool starts_with(std::string_view text, std::string_view prefix);
bool ends_with(std::string_view text, std::string_view suffix);
std::string replace_all(std::string text, std::string_view from, std::string_view to);
// A text that a file gave, fit for one line of an error: quoted, control characters escaped, cut when long.
std::string in_quotes(std::string_view text, size_t max_bytes = 160);

// "1.50 GiB", "12.0 MiB", "312 B".
std::string human_bytes(int64_t bytes);
// "1.2 T", "345 G", "12.0 M", "870".
std::string human_count(double count);
// "2:03:04" or "3:04".
std::string human_duration(double seconds);

}  // namespace serval
