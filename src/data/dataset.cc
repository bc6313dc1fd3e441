#include "data/dataset.h"

#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace serval {
namespace {

struct RowPlace {
  int64_t begin = 0, end = 0;  // bytes of the file
  int64_t line = 0;            // from 1
};

std::string_view text_of(const MappedFile& file) {
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

std::vector<RowPlace> find_lines(std::string_view text, size_t begin) {
  std::vector<RowPlace> rows;
  int64_t line = 1;
  for (size_t at = begin; at < text.size(); ++line) {
    const size_t new_line = text.find('\n', at);
    const size_t end = new_line == std::string_view::npos ? text.size() : new_line;
    if (!trim(text.substr(at, end - at)).empty())
      rows.push_back({static_cast<int64_t>(at), static_cast<int64_t>(end), line});
    at = end + 1;
  }
  return rows;
}

// Walks over the elements of one JSON list without parsing them: brackets and strings alone say where each
// ends.
class ListScanner {
 public:
  ListScanner(std::string_view text, size_t begin, const std::string& path)
      : text_(text), at_(begin), path_(path) {}

  std::vector<RowPlace> scan() {
    skip_blanks();
    ++at_;  // the opening bracket
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == ']') return finish();
    while (true) {
      rows_.push_back(element());
      if (at_ >= text_.size()) ends_early();
      const char separator = text_[at_++];
      if (separator == ']') {
        --at_;
        return finish();
      }
      skip_blanks();
    }
  }

 private:
  void skip_blanks() {
    for (; at_ < text_.size() && is_blank(text_[at_]); ++at_) line_ += text_[at_] == '\n';
  }

  // Stops at the comma or bracket that follows the element.
  RowPlace element() {
    RowPlace place{static_cast<int64_t>(at_), 0, line_};
    int64_t depth = 0;
    bool in_string = false;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      line_ += c == '\n';
      if (in_string) {
        if (c == '\\') ++at_;
        if (c == '"') in_string = false;
        continue;
      }
      if (depth == 0 && (c == ',' || c == ']')) break;
      if (c == '"') in_string = true;
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && --depth < 0)
        fail("{}:{}: not valid JSON: unexpected '{}'", path_, line_, c);
    }
    if (at_ >= text_.size()) {
      at_ = text_.size();
      line_ = place.line;
      ends_early();
    }
    place.end = static_cast<int64_t>(at_);
    return place;
  }

  std::vector<RowPlace> finish() {
    ++at_;  // the closing bracket
    skip_blanks();
    if (at_ < text_.size())
      fail("{}:{}: not valid JSON: there is more after the end of the list of rows", path_, line_);
    return std::move(rows_);
  }

  [[noreturn]] void ends_early() {
    fail("{}:{}: the file ends inside its list of rows (in or after row {}); was it cut off?", path_, line_,
         rows_.size() + 1);
  }

  std::string_view text_;
  size_t at_;
  const std::string& path_;
  int64_t line_ = 1;
  std::vector<RowPlace> rows_;
};

class JsonFileReader : public DatasetReader {
 public:
  explicit JsonFileReader(const std::string& path) : path_(path), file_(path) {
    const std::string_view text = text_of(file_);
    const size_t begin = starts_with(text, "\xEF\xBB\xBF") ? 3 : 0;
    size_t first = begin;
    while (first < text.size() && is_blank(text[first])) ++first;
    if (first == text.size()) fail("{}: holds no rows (the file is empty)", path);
    if (text[first] == '[') {
      rows_ = ListScanner(text, begin, path_).scan();
    } else if (text[first] == '{') {
      rows_ = find_lines(text, begin);
    } else {
      fail("{}: is neither JSONL (one object a line) nor JSON (a list of objects): it starts with {}", path,
           first_bytes(text.substr(first)));
    }
    if (rows_.empty()) fail("{}: holds no rows (the list is empty)", path);
  }

  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  const std::string& path() const override { return path_; }

  std::string where(int64_t index) const override { return fmt::format("{}:{}", path_, at(index).line); }

  Json row(int64_t index) const override {
    const RowPlace& place = at(index);
    const std::string_view text =
        text_of(file_).substr(static_cast<size_t>(place.begin), static_cast<size_t>(place.end - place.begin));
    Json row = Json::parse(text, where(index));
    if (!row.is_object())
      fail("{}: expected a row (an object with named columns) but found {}", where(index), row.type_name());
    return row;
  }

 private:
  const RowPlace& at(int64_t index) const {
    SERVAL_CHECK(index >= 0 && index < size());
    return rows_[static_cast<size_t>(index)];
  }

  static std::string first_bytes(std::string_view text) {
    std::string result;
    for (const char c : text.substr(0, 4))
      result += c >= 0x20 && c < 0x7f ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
    return "'" + result + "'";
  }

  std::string path_;
  MappedFile file_;
  std::vector<RowPlace> rows_;
};

}  // namespace

std::unique_ptr<DatasetReader> open_dataset(const std::string& path) {
  return std::make_unique<JsonFileReader>(path);
}

}  // namespace serval
