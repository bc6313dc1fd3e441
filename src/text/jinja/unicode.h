// Text as Python's str sees it: code points, Unicode case and white space. All text is valid UTF-8.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace serval::jinja {

bool is_ascii(std::string_view text);
bool is_valid_utf8(std::string_view text);
int64_t count_code_points(std::string_view text);
// Byte at which code point `index` starts; text.size() where the text is shorter.
size_t byte_offset(std::string_view text, int64_t index);
// Reads the code point at `position` and moves past it.
char32_t next_code_point(std::string_view text, size_t& position);
void append_code_point(std::string& text, char32_t code_point);  // U+FFFD for what is no code point
std::vector<std::string_view> code_points(std::string_view text);

bool is_space(char32_t c);       // str.isspace
bool is_line_break(char32_t c);  // str.splitlines
bool is_alphabetic(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_alphanumeric(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_title(char32_t c);
bool is_printable(char32_t c);  // what repr() does not escape
bool starts_identifier(char32_t c);
bool continues_identifier(char32_t c);
int decimal_value(char32_t c);  // of a digit of any script, else -1
// What "&name" of HTML stands for ("amp;", "eacute"), nullptr where there is none.
const char* html_entity(std::string_view name);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string capitalize(std::string_view text);  // first to title case, the others to lower case
std::string title_case(std::string_view text);  // str.title
std::string case_fold(std::string_view text);
std::string swap_case(std::string_view text);

// str.strip and its one-sided forms; `chars` empty means white space.
std::string_view strip(std::string_view text, std::string_view chars, bool left, bool right);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
std::vector<std::string_view> split_blanks(std::string_view text, int64_t max_splits, bool from_right);

}  // namespace serval::jinja
