#include "base/text.h"
#include "data/readers/readers.h"

namespace serval {
namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

size_t skip_blanks(std::string_view text, size_t at) {
  while (at < text.size() && is_blank(text[at])) ++at;
  return at;
}

// Walks over the elements of one JSON list without parsing them: brackets and strings alone say where each
// ends.
class ListScanner final : public RowScanner {
 public:
  // Behind the whole list: nothing follows.
  static size_t done(std::string_view text) { return text.size() + 1; }
  int64_t rows_a_mark() const override { return 4; }

  bool next(std::string_view text, size_t at, RowPlace& row) const override {
    if (at == done(text)) return false;
    row.begin = skip_blanks(text, at);
    row.end = element_end(text, row.begin);
    if (row.begin == row.end)
      throw ScanError{row.begin, fmt::format("not valid JSON: '{}' where a row should begin", text[row.end])};
    row.next = row.end + 1;
    if (text[row.end] == ']') {
      const size_t rest = skip_blanks(text, row.next);
      if (rest < text.size())
        throw ScanError{rest, "not valid JSON: there is more after the end of the list of rows"};
      row.next = done(text);
    }
    return true;
  }

 private:
  // The comma or bracket that follows the element.
  static size_t element_end(std::string_view text, size_t begin) {
    int64_t depth = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      switch (text[at]) {
        case '"':
          at = string_end(text, at, begin);
          break;
        case '{':
        case '[':
          ++depth;
          break;
        case '}':
        case ']':
          if (depth == 0 && text[at] == ']') return at;
          if (--depth < 0) throw ScanError{at, fmt::format("not valid JSON: unexpected '{}'", text[at])};
          break;
        case ',':
          if (depth == 0) return at;
          break;
        default:
          break;
      }
    }
    ends_early(begin);
  }

  static size_t string_end(std::string_view text, size_t open, size_t element) {
    size_t quote = open;
    while (true) {
      quote = text.find('"', quote + 1);
      if (quote == std::string_view::npos) ends_early(element);
      size_t backslashes = 0;
      while (text[quote - 1 - backslashes] == '\\') ++backslashes;
      if (backslashes % 2 == 0) return quote;
    }
  }

  [[noreturn]] static void ends_early(size_t element) {
    throw ScanError{element, "the file ends inside its list of rows (in or after this one); was it cut off?"};
  }
};

// What is likely to be meant by text that is no JSON; "" where that is unclear.
std::string hint_of(std::string_view row) {
  const std::string_view text = trim(row);
  if (text == "{" || text == "{{" || (starts_with(text, "{") && !ends_with(text, "}")))
    return "; a row of JSONL stands on one line (several lines need a list: [{...}, {...}])";
  for (const char* number : {"NaN", "Infinity"})
    if (text.find(number) != std::string_view::npos)
      return fmt::format("; JSON has no {}: write null", number);
  for (const char* half : {"\\ud", "\\uD"})
    if (text.find(half) != std::string_view::npos)
      return "; half of a surrogate pair (\\ud800 to \\udfff) is no character";
  return {};
}

class JsonReader final : public TextFileReader {
 public:
  using TextFileReader::TextFileReader;

  Json row(int64_t index) const override {
    const std::string_view text = rows_.text(index);
    // The place is only worth finding for a message.
    Json row;
    try {
      row = Json::parse(text, file_.name);
    } catch (const UserError&) {
      try {
        return Json::parse(text, where(index));
      } catch (const UserError& error) {
        fail("{}{}", error.what(), hint_of(text));
      }
    }
    if (!row.is_object())
      fail("{}: expected a row (an object with named columns) but found {}", where(index), row.type_name());
    return row;
  }
};

std::string first_bytes(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 4))
    result += c >= 0x20 && c < 0x7f ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
  return "'" + result + "'";
}

}  // namespace

std::unique_ptr<DatasetReader> open_json(NamedFile file) {
  const std::string_view text = file.text();
  const size_t begin = skip_byte_order_mark(text, file.name);
  const size_t first = skip_blanks(text, begin);
  if (first == text.size() || text[first] == '{')
    return std::make_unique<JsonReader>(std::move(file), begin, std::make_unique<LineScanner>());
  if (text[first] != '[')
    fail("{}: is neither JSONL (one object a line) nor JSON (a list of objects): it starts with {}",
         file.name, first_bytes(text.substr(first)));
  size_t at = first + 1;
  const size_t inside = skip_blanks(text, at);
  if (inside < text.size() && text[inside] == ']' && skip_blanks(text, inside + 1) == text.size())
    at = ListScanner::done(text);
  return std::make_unique<JsonReader>(std::move(file), at, std::make_unique<ListScanner>());
}

}  // namespace serval
